"""Workers, which only train: what one hears, does and says, and who starts them."""
