"""The registry: promote a study's best trial, roll back, look back, and find what is to predict."""

from mmtune.registry.promotion import Promotion, VersionRecord, champion_folder, history, promote, rollback

__all__ = ["Promotion", "VersionRecord", "champion_folder", "history", "promote", "rollback"]
