"""DeepFM, DIN and SASRec of RecBole 1.2.1 on exactly the rows of a run, back as files of predictions.

    rallrec run RECIPE --out RUN --until graph
    rallrec export rows RUN --to DATA/NAME --format recbole --history 20
    python benches/peers/recbole_ctr.py DATA/NAME OUT [MODEL=EPOCHS ...]
    rallrec run RECIPE --out RUN --set 'experts.din.file="OUT/DIN.csv"' --set 'experts.sasrec.file="OUT/SASRec.csv"' \\
        --set experts.sasrec.calibrate=platt

RecBole learns from the training rows and stops early by the AUC of the validation rows; labels of test rows are not in the
files. DeepFM and DIN write probabilities. SASRec is trained to name the next item and writes the score of the row's
item, of which a logistic fit on validation rows makes a probability (`calibrate`).

An environment of its own: pip install recbole==1.2.1 'numpy<2' 'pandas<3' 'scipy<1.14'.
"""
import csv
import os
import pathlib
import resource
import sys
import time

import torch

# Checkpoints of RecBole hold its configuration, which newer versions of torch refuse to read by themselves.
_load = torch.load
torch.load = lambda *args, **named: _load(*args, **{**named, "weights_only": False})

from recbole.config import Config  # noqa: E402
from recbole.data import create_dataset, data_preparation  # noqa: E402
from recbole.utils import get_model, get_trainer, init_seed  # noqa: E402

EPOCHS = {"DeepFM": 5, "DIN": 3, "SASRec": 3}
SEQUENCES = ("DIN", "SASRec")


def settings(model, folder, out, epochs):
    own = {
        "data_path": str(folder.parent),
        "epochs": epochs,
        "stopping_step": 2,
        "train_batch_size": 4096,
        "eval_batch_size": 16384,
        "learning_rate": 1e-3,
        "embedding_size": 16,
        "checkpoint_dir": str(out),
        "show_progress": False,
        "use_gpu": False,
        "seed": 42,
        "reproducibility": True,
        "state": "WARNING",
        "repeatable": True,
    }
    if model not in SEQUENCES:
        own["load_col"] = {"inter": ["row_id", "user_id", "item_id", "label"], "item": ["item_id", "genres"]}
        own["alias_of_item_id"] = None
    if model == "SASRec":
        # It learns what was liked next, and is judged by the AUC of that score.
        own |= {"loss_type": "BPR", "embedding_size": 64, "hidden_size": 64, "inner_size": 128, "n_layers": 2, "n_heads": 2}
        own |= {"val_interval": None, "train_neg_sample_args": {"distribution": "uniform", "sample_num": 1, "dynamic": False,
                                                                "alpha": 1.0, "candidate_num": 0}}
    return own


def predictions(model, loader):
    for batch in loader:
        rows = batch[0] if isinstance(batch, (tuple, list)) else batch
        with torch.no_grad():
            scores = model.predict(rows)
        yield from zip(rows["row_id"].round().long().tolist(), scores.double().tolist(), strict=True)


def run(name, folder, out, epochs):
    began = time.perf_counter()
    own = settings(name, folder, out, epochs)
    config = Config(model=name, dataset=folder.name, config_file_list=[str(folder / "recbole.yaml")], config_dict=own)
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    train, valid, test = data_preparation(config, dataset)
    init_seed(config["seed"], config["reproducibility"])
    model = get_model(name)(config, train.dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], name)(config, model)
    trainer.fit(train, valid, saved=True, show_progress=False)
    model.load_state_dict(torch.load(trainer.saved_model_file)["state_dict"])
    model.eval()
    column = "score" if name == "SASRec" else "p"
    count = 0
    with open(out / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", column])
        for loader in (valid, test):
            for row, score in predictions(model, loader):
                writer.writerow([row, repr(score)])
                count += 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    best = trainer.best_valid_score
    print(f"{name}: {count} rows, {time.perf_counter() - began:.0f} s, {peak:.2f} GiB at most, best on validation {best}")


def main():
    folder, out = (pathlib.Path(word).resolve() for word in sys.argv[1:3])
    out.mkdir(parents=True, exist_ok=True)
    # RecBole leaves its logs where it is called.
    os.chdir(out)
    asked = dict(word.split("=") for word in sys.argv[3:]) or EPOCHS
    for name, epochs in asked.items():
        run(name, folder, out, int(epochs))


main()
