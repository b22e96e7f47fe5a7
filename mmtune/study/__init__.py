"""What a study is: its space, its trials, its key, and the file that it stands in. Free of torch and Optuna."""

from mmtune.study import catalogue
from mmtune.study.definition import Study, parse_fixed, paths_fixed, with_fixed
from mmtune.study.finding import load_file, load_study, study_files
from mmtune.study.key import StudyKey
from mmtune.study.space import one_of, under
from mmtune.train.objective import Metric

__all__ = [
    "Metric",
    "Study",
    "StudyKey",
    "catalogue",
    "load_file",
    "load_study",
    "one_of",
    "parse_fixed",
    "paths_fixed",
    "study_files",
    "under",
    "with_fixed",
]
