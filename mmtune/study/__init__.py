"""What a study is: its space, its trials, its key, and the file that it stands in. Free of torch and Optuna."""

from mmtune.study.definition import Study, parse_fixed, paths_fixed, settled
from mmtune.study.finding import load_study, study_files
from mmtune.study.key import StudyKey
from mmtune.study.space import under

__all__ = ["Study", "StudyKey", "load_study", "parse_fixed", "paths_fixed", "settled", "study_files", "under"]
