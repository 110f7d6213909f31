"""Sets scikit-learn and LightGBM beside the crate `models`, on the same rows.

    cargo run -p microclimate-models --example fit_time -- target/models-bench
    pip install scikit-learn==1.6.1 lightgbm==4.7.0 matplotlib
    python bench/models_peers.py target/models-bench

Reads x.npy, y.npy and ours.csv, which the example wrote; prints one table and
writes peers.csv and peers.png. Models that the example left out are left out. A
peer gets the same rows as the model beside it (thinned evenly to as many), the
same kind of settings, and all processors, as ours do; nothing else should run
meanwhile. Times are of one fit (and the processor time of all its threads), and
of 1,000 single-row predictions.
"""

import csv
import pickle
import sys
import time
import warnings
from pathlib import Path

import lightgbm
import matplotlib
import numpy as np
import sklearn
from sklearn.compose import TransformedTargetRegressor
from sklearn.cross_decomposition import PLSRegression
from sklearn.ensemble import (
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestRegressor,
)
from sklearn.linear_model import ElasticNet, LogisticRegression, RidgeCV, TweedieRegressor
from sklearn.metrics import (
    average_precision_score,
    mean_absolute_error,
    roc_auc_score,
    root_mean_squared_error,
)
from sklearn.model_selection import TimeSeriesSplit
from sklearn.neighbors import KNeighborsRegressor, LocalOutlierFactor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR, OneClassSVM
from sklearn.tree import DecisionTreeRegressor

matplotlib.use("Agg")
import matplotlib.pyplot as plt

TEST_ROWS = 20_000
SINGLE_ROWS = 1000
DETECTED_ROWS = 2000
FOREST = {"max_depth": 14, "min_samples_leaf": 10, "max_features": 1 / 3, "n_jobs": -1, "random_state": 1}
LEAVES = {"n_estimators": 200, "learning_rate": 0.05, "max_depth": 6, "num_leaves": 63,
          "min_child_samples": 20, "subsample": 0.8, "subsample_freq": 1, "random_state": 1, "verbose": -1}


def scaled(model):
    return make_pipeline(StandardScaler(), model)


def both_scaled(model):
    return TransformedTargetRegressor(scaled(model), transformer=StandardScaler())


REGRESSORS = [
    ("ridge", "Ridge", lambda: scaled(RidgeCV(np.geomspace(0.1, 1e5, 9), cv=TimeSeriesSplit(4)))),
    ("elastic net", "ElasticNet", lambda: scaled(ElasticNet(0.005, l1_ratio=0.5))),
    ("partial least squares", "PLSRegression(10)", lambda: PLSRegression(10)),
    ("nearest neighbours", "KNeighbors(20)", lambda: scaled(KNeighborsRegressor(20, weights="distance"))),
    ("support vectors", "SVR", lambda: both_scaled(SVR(C=1.0, epsilon=0.1, gamma=1 / 100))),
    # Our decay is per step, alpha is per row of a batch.
    ("neural net", "MLP(32)", lambda: both_scaled(MLPRegressor(
     hidden_layer_sizes=(32,), activation="tanh", batch_size=128, learning_rate_init=0.005, alpha=0.003 * 128,
     max_iter=40, early_stopping=True, n_iter_no_change=10, tol=0.0, random_state=1))),
    ("decision tree", "DecisionTree", lambda: DecisionTreeRegressor(max_depth=8, min_samples_leaf=30)),
    ("random forest", "RandomForest(30)", lambda: RandomForestRegressor(30, **FOREST)),
    ("extra trees", "ExtraTrees(30)", lambda: ExtraTreesRegressor(30, **FOREST)),
    ("gradient boosting", "HistGradientBoosting", lambda: HistGradientBoostingRegressor(
     max_iter=200, learning_rate=0.05, max_depth=6, early_stopping=False, random_state=1)),
    ("gradient boosting", "LightGBM", lambda: lightgbm.LGBMRegressor(**LEAVES)),
    ("quantile boosting", "LightGBM median", lambda: lightgbm.LGBMRegressor(
     objective="quantile", alpha=0.5, **LEAVES)),
]
OF_AMOUNTS = [
    ("tweedie", "TweedieRegressor", lambda: scaled(TweedieRegressor(power=1.5, alpha=1e-3, link="log", max_iter=200))),
]
CLASSIFIERS = [
    ("logistic regression", "LogisticRegression", lambda: scaled(LogisticRegression(max_iter=200))),
    ("gradient boosting", "HistGradientBoosting", lambda: HistGradientBoostingClassifier(
     max_iter=200, learning_rate=0.05, max_depth=6, early_stopping=False, random_state=1)),
    ("gradient boosting", "LightGBM", lambda: lightgbm.LGBMClassifier(**LEAVES)),
]
DETECTORS = [
    ("isolation forest", "IsolationForest", lambda: IsolationForest(random_state=1, n_jobs=-1)),
    ("local outlier factor", "LocalOutlierFactor", lambda: scaled(LocalOutlierFactor(novelty=True))),
    ("one-class support vectors", "OneClassSVM", lambda: scaled(OneClassSVM(nu=0.05, gamma=1 / 100))),
]


def thinned(rows_max, *arrays):
    rows = len(arrays[0])
    kept = np.arange(min(rows, rows_max)) * rows // min(rows, rows_max)
    return [array[kept] for array in arrays]


def measure(ours, kind, name, peer, model, arrays, say, judge, test):
    line = next((row for row in ours if (row["kind"], row["model"]) == (kind, name)), None)
    if line is None:
        return None
    rows = thinned(int(line["rows"]), *arrays)
    start, cpu_start = time.perf_counter(), time.process_time()
    model.fit(*rows)
    fit_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu_start
    took = []
    for row in range(SINGLE_ROWS):
        one = test[row : row + 1]
        start = time.perf_counter()
        say(model, one)
        took.append(1e6 * (time.perf_counter() - start))
    median_us, p99_us = np.quantile(took, [0.5, 0.99])
    found = {"kind": kind, "model": name, "peer": peer, "rows": len(rows[0]), "metric": line["metric"],
             "ours_fit_s": float(line["fit_s"]), "peer_fit_s": fit_s,
             "ours_fit_cpu_s": float(line["fit_cpu_s"]), "peer_fit_cpu_s": cpu_s,
             "ours_us": float(line["predict_us"]), "peer_us": float(median_us),
             "ours_p99_us": float(line["predict_p99_us"]), "peer_p99_us": float(p99_us),
             "ours_bytes": int(line["size_bytes"]), "peer_bytes": len(pickle.dumps(model)),
             "ours": float(line["value"]), "peer_value": judge(model)}
    print(f"{kind:10} {name:26} {peer:22} {found['rows']:7} rows | fit {found['ours_fit_s']:8.2f} {fit_s:8.2f} s"
          f" | CPU {found['ours_fit_cpu_s']:7.2f} {cpu_s:7.2f} s"
          f" | row {found['ours_us']:8.1f} {found['peer_us']:8.1f} µs, p99 {found['ours_p99_us']:8.1f} {p99_us:8.1f} µs"
          f" | {found['ours_bytes'] // 1024:6} {found['peer_bytes'] // 1024:6} kB"
          f" | {line['metric']} {found['ours']:.4f} {found['peer_value']:.4f}", flush=True)
    return found


def plot(found, path):
    panels = [("fit, processor seconds", "ours_fit_cpu_s", "peer_fit_cpu_s"),
              ("one row, median µs", "ours_us", "peer_us"),
              ("size, kB", "ours_bytes", "peer_bytes"),
              ("error of ours / peer's", None, None)]
    names = [f"{row['model']} | {row['peer']}" for row in found]
    places = np.arange(len(found))
    figure, axes = plt.subplots(1, len(panels), figsize=(16, 0.42 * len(found) + 1.6), sharey=True)
    for axis, (title, ours, peer) in zip(axes, panels):
        axis.set_title(title)
        if ours:
            unit = 1024 if ours == "ours_bytes" else 1
            floor = 0.01 if "cpu" in ours else 0.1
            axis.barh(places - 0.2, [max(row[ours] / unit, floor) for row in found], 0.4, label="ours", color="#2a7f62")
            axis.barh(places + 0.2, [max(row[peer] / unit, floor) for row in found], 0.4, label="peer", color="#c0c0c0")
            axis.set_xscale("log")
        else:
            # Areas under curves as what is missing to 1, so that less is better everywhere.
            lost = lambda row, key: row[key] if row["metric"] in ("rmse", "mae") else 1 - row[key]
            axis.plot([lost(row, "ours") / max(lost(row, "peer_value"), 1e-9) for row in found], places, "o", color="#2a7f62")
            axis.axvline(1, color="#808080", linewidth=1)
        axis.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(places, names)
    axes[0].invert_yaxis()
    axes[0].legend(loc="lower right")
    figure.suptitle("The crate `models` beside scikit-learn and LightGBM, same rows: less is better in every panel")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main():
    warnings.filterwarnings("ignore")
    folder = Path(sys.argv[1])
    x, y = np.load(folder / "x.npy"), np.load(folder / "y.npy")
    ours = list(csv.DictReader((folder / "ours.csv").open()))
    train, test, truth, seen = x[:-TEST_ROWS], x[-TEST_ROWS:], y[-TEST_ROWS:], y[:-TEST_ROWS]
    odd = test[:DETECTED_ROWS].copy()
    odd[::50, :10] *= 3.0
    marked = np.arange(DETECTED_ROWS) % 50 == 0
    print(f"scikit-learn {sklearn.__version__}, LightGBM {lightgbm.__version__}; each pair: ours, peer")
    found = []

    def run(kind, models, arrays, say, judge):
        for name, peer, make in models:
            row = measure(ours, kind, name, peer, make(), arrays, say, judge, test)
            found.extend([row] if row else [])

    predict = lambda model, rows: model.predict(rows)
    chance = lambda model, rows: model.predict_proba(rows)[:, 1]
    oddity = lambda model, rows: -model.score_samples(rows)
    run("regressor", REGRESSORS, (train, seen), predict,
        lambda model: root_mean_squared_error(truth, model.predict(test)))
    run("of amounts", OF_AMOUNTS, (train, np.exp(seen / 4)), predict,
        lambda model: mean_absolute_error(np.exp(truth / 4), model.predict(test)))
    run("classifier", CLASSIFIERS, (train, (seen > 1).astype(int)), chance,
        lambda model: roc_auc_score(truth > 1, chance(model, test)))
    run("detector", DETECTORS, (train,), oddity,
        lambda model: average_precision_score(marked, oddity(model, odd)))
    with (folder / "peers.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, found[0])
        table.writeheader()
        table.writerows(found)
    plot(found, folder / "peers.png")


if __name__ == "__main__":
    main()
