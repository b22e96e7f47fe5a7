"""What files of pictures, sounds and arrays hold, as numbers; files may be of unknown origin."""
