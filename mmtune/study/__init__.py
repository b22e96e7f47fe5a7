"""What a study is: its space, its trials, its key, and the file that it stands in. Free of torch and Optuna."""

from mmtune.study.definition import Study, load_study, parse_fixed, settled, studies_folder, study_names
from mmtune.study.key import StudyKey
from mmtune.study.space import under

__all__ = ["Study", "StudyKey", "load_study", "parse_fixed", "settled", "studies_folder", "study_names", "under"]
