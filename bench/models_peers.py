"""Sets scikit-learn and LightGBM beside the crate `models`, on the same rows.

    cargo run -p models --example fit_time -- target/models-bench
    pip install scikit-learn==1.6.1 lightgbm==4.7.0
    python bench/models_peers.py target/models-bench

Reads x.npy, y.npy and ours.csv, which the example wrote; prints one table and
writes peers.csv. A peer gets the same rows as the model beside it (thinned
evenly to as many), the same kind of settings, and all processors, as ours do;
nothing else should run meanwhile. Times are of one fit, and the median of 200
single-row predictions.
"""

import csv
import sys
import time
import warnings
from pathlib import Path

import lightgbm
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

TEST_ROWS = 20_000
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
    line = next(row for row in ours if (row["kind"], row["model"]) == (kind, name))
    rows = thinned(int(line["rows"]), *arrays)
    start = time.perf_counter()
    model.fit(*rows)
    fit_s = time.perf_counter() - start
    took = []
    for row in range(200):
        one = test[row : row + 1]
        start = time.perf_counter()
        say(model, one)
        took.append(time.perf_counter() - start)
    found = {"kind": kind, "model": name, "peer": peer, "rows": len(rows[0]), "metric": line["metric"],
             "ours_fit_s": float(line["fit_s"]), "peer_fit_s": fit_s,
             "ours_us": float(line["predict_us"]), "peer_us": 1e6 * float(np.median(took)),
             "ours": float(line["value"]), "peer_value": judge(model)}
    print(f"{kind:10} {name:26} {peer:22} {found['rows']:7} rows | fit {found['ours_fit_s']:8.2f} {fit_s:8.2f} s"
          f" | row {found['ours_us']:8.1f} {found['peer_us']:8.1f} µs"
          f" | {line['metric']} {found['ours']:.4f} {found['peer_value']:.4f}", flush=True)
    return found


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
            found.append(measure(ours, kind, name, peer, make(), arrays, say, judge, test))

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


if __name__ == "__main__":
    main()
