"""Every figure in the documents comes from a result file."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.accuracy import tables
from benchmarks.accuracy.definitions import load_definitions
from benchmarks.accuracy.folds import with_folds_together
from benchmarks.forms_speed import LIGHT

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results"
FIGURES = ("ja", "boundary_iou", "true_pixels")
AGAIN = "final/isic2017_official/again_mean_matched/seed0.json"  # the network that ships, all parts kept
PIXELS = 12  # column of the pixels of the lesion in the results of the comparison
NAMES = ("ja", "dice", "sensitivity", "specificity", "accuracy", "boundary_iou", "hd95", "assd", "nsd")


def overall(name):
    return json.loads((RESULTS / f"{name}.json").read_text())["overall"]


@pytest.mark.parametrize("document", ["bundle/docs/README.md", "docs/validation.md"])
@pytest.mark.parametrize("metric", NAMES)
def test_the_table_of_the_shipped_weights_is_the_one_that_was_measured(document, metric):
    figures = overall("skin_lesion_validation")["metrics"][metric]
    low, high = figures["interval"]
    row = f"| {figures['mean']:.4f} | {low:.4f} to {high:.4f} | {figures['median']:.4f} |"
    assert row in (ROOT / document).read_text()


@pytest.mark.parametrize("task", ["polyp", "lung"])
def test_the_rows_of_the_other_tasks_are_those_that_were_measured(task):
    metrics = overall(f"{task}_validation")["metrics"]
    low, high = metrics["ja"]["interval"]
    row = next(
        line for line in (ROOT / "docs" / "validation.md").read_text().splitlines() if line.startswith(f"| {task} |")
    )
    assert f"| {metrics['ja']['mean']:.3f} ({low:.3f} to {high:.3f}) | {metrics['dice']['mean']:.3f} |" in row


def test_the_rows_of_the_hippocampus_are_those_that_were_measured():
    classes = json.loads((RESULTS / "hippocampus_validation.json").read_text())["classes"]
    assert len(classes) == 2
    for name, part in classes.items():
        dice, ja = part["metrics"]["dice"], part["metrics"]["ja"]
        low, high = dice["interval"]
        row = f"| {name} | {dice['mean']:.3f} ({low:.3f} to {high:.3f}) | {ja['mean']:.3f} |"
        assert row in (ROOT / "docs" / "validation.md").read_text()


def test_the_metadata_state_the_measured_figures():
    stated = json.loads((ROOT / "bundle" / "configs" / "metadata.json").read_text())["eval_metrics"]
    measured = overall("skin_lesion_validation")["metrics"]
    assert stated == {f"validation_{name}": round(measured[name]["mean"], 4) for name in ("ja", "dice", "boundary_iou")}


def test_the_model_card_states_the_measured_time():
    report = json.loads((ROOT / "benchmarks" / "results" / "forms_speed_cpu.json").read_text())
    fast = [row for row in report["rows"] if (row["network"], row["form"]) == (LIGHT, "optimized")]
    times = {row["dtype"]: f"{1e3 * row['median_s']:.0f} ms" for row in fast}
    words = f"(about {times['bfloat16']} in bfloat16, {times['float32']} in float32 per 256x256 picture on two cores"
    assert words in (ROOT / "bundle" / "docs" / "README.md").read_text()


def test_the_figures_of_the_network_in_8_bit_integers_are_those_that_were_measured():
    report = json.loads((ROOT / "benchmarks" / "results" / "int8.json").read_text())
    row = next(row for row in report["rows"] if row["name"] == "openvino int8")
    assert row["passes"]
    for document in ("bundle/docs/README.md", "CHANGELOG.md"):
        assert f"JA {row['validation_ja']:.4f}" in (ROOT / document).read_text()


def test_the_tables_of_the_comparison_are_those_of_the_result_files(capsys):
    assert tables.main(["--check", str(ROOT / "docs" / "validation.md")]) == 0, capsys.readouterr().out


def test_the_words_about_the_comparison_give_the_differences_of_the_result_files():
    report = tables.Report("cpu/isic2017", tables.load_results(tables.RESULTS)["cpu/isic2017"])
    ja, boundary = ({n: d.mean for n, d in report.differences(m).items()} for m in ("ja", "boundary_iou"))
    text = " ".join((ROOT / "docs" / "validation.md").read_text().split())
    parts = ["banet_no_pee", "banet_no_mtl", "banet_no_ia", "banet_no_cff"]
    for words, found in (("the JA changes by", ja), ("the Boundary IoU by", boundary)):
        *first, last = (f"{found[part]:+.3f}" for part in parts)
        assert f"{words} {', '.join(first)} and {last}" in text
    for peer in ("unet", "deeplabv3", "fcn", "cenet"):
        assert f"JA {-ja[peer]:+.3f}, Boundary IoU {-boundary[peer]:+.3f}" in text
    finer, hd95 = "banet_stride_2", report.differences("hd95")["banet_stride_2"]
    assert (
        f"JA changes by {ja[finer]:+.3f}, Boundary IoU by {boundary[finer]:+.3f}, and HD95 is {hd95.mean:.1f}" in text
    )
    assert hd95.by_cases[0] > 0


def test_the_words_about_other_forms_and_losses_give_the_differences_of_the_result_files():
    report = tables.Report("cpu/isic2017", tables.load_results(tables.RESULTS)["cpu/isic2017"])
    ja, boundary = (report.differences(metric) for metric in ("ja", "boundary_iou"))
    text = " ".join((ROOT / "docs" / "validation.md").read_text().split())
    forms = ["no_aspp", "pooled_maps", "learned_gates", "forward_gate", "kernels_357", "os8", "mask_output"]
    spans = []
    for found in (ja, boundary):
        values = [found[f"banet_{form}"] for form in forms]
        assert all(value.by_cases[0] < 0 < value.by_cases[1] for value in values)
        spans.append(f"{min(value.mean for value in values):+.3f} to {max(value.mean for value in values):+.3f}")
    assert f"change the JA by {spans[0]} and the Boundary IoU by {spans[1]}; every interval holds 0" in text

    def words(name, join=" and "):
        return f"{ja[name].mean:+.3f}{join}{boundary[name].mean:+.3f}"

    edge = [found["banet_edge_0"] for found in (ja, boundary)]
    assert f"loss on the edge maps JA {edge[0].mean:+.3f} and Boundary IoU {edge[1].mean:+.3f}. Over the cases" in text
    assert edge[0].by_both is not None
    assert edge[0].by_both[0] < 0 < edge[0].by_cases[0]
    assert edge[1].by_cases[0] < 0 < edge[1].by_cases[1]
    assert f"cross-entropy (one seed) JA {words('banet_no_dice', ' and Boundary IoU ')}" in text
    assert f"a boundary loss beside both (two seeds) {words('banet_boundary_loss')}" in text
    assert len(report.results["banet_boundary_loss"]) == len(report.results["banet_mask_output"]) == 2
    assert f"focal one (one seed) {words('banet_focal')}" in text
    means = {
        name: report.results[name][0]["summary"]["overall"]["metrics"]["ja"]["mean"]
        for name in (
            "banet_random",
            *(f"monai_{kind}" for kind in ("resunet", "attentionunet", "basicunet", "segresnet", "flexibleunet")),
        )
    }
    random, *others, best = (f"{mean:.3f}" for mean in means.values())
    difference = words("banet_random", " (Boundary IoU ")
    assert f"from random weights BA-Net reaches JA {random}, {difference})" in text
    assert (
        "UNet with residual units (JA {}), AttentionUnet ({}), BasicUNet ({}) and SegResNet ({}) lie".format(*others)
        in text
    )
    assert f"is far better: {best}" in text
    assert ja["banet_random"].by_cases[1] < 0
    again = json.loads((ROOT / "docs" / "results" / "comparison_control.json").read_text())
    (first,) = [run for run in report.results["banet"] if run["seed"] == 0]
    metrics = [run["summary"]["overall"]["metrics"] for run in (again, first)]
    apart = (f"{metrics[0][name]['mean'] - metrics[1][name]['mean']:+.3f}" for name in ("ja", "boundary_iou"))
    assert f"comes out {' and '.join(apart)} apart" in text
    for name in ("banet_no_dice", "banet_boundary_loss", "banet_focal"):
        assert boundary[name].by_cases[1] < 0
    assert ja["banet_no_dice"].by_cases[1] < 0
    assert ja["banet_boundary_loss"].by_cases[0] < 0 < ja["banet_boundary_loss"].by_cases[1]
    over_seeds = boundary["banet_boundary_loss"].by_both
    assert over_seeds is not None
    assert over_seeds[0] < 0 < over_seeds[1]


def test_the_words_about_finer_pictures_give_the_differences_of_the_result_files():
    groups = tables.with_baselines(tables.load_results(tables.RESULTS), load_definitions()["budgets"])
    report = tables.Report("recipe/isic2017", groups["recipe/isic2017"])
    boundary, nsd = (report.differences(metric)["finer_both"].mean for metric in ("boundary_iou", "nsd"))
    text = " ".join((ROOT / "docs" / "validation.md").read_text().split())
    assert f"Boundary IoU {boundary:+.3f}, NSD {nsd:+.3f}" in text
    focal = [report.differences(metric)["recipe_focal"] for metric in ("ja", "boundary_iou")]
    assert f"loses: JA {focal[0].mean:+.3f}, Boundary IoU {focal[1].mean:+.3f}, and both intervals" in text
    assert all(difference.by_cases[1] < 0 for difference in focal)
    average = [report.differences(metric)["recipe_ema_999"] for metric in ("ja", "boundary_iou")]
    assert f"about as much: JA {average[0].mean:+.3f}, Boundary IoU {average[1].mean:+.3f}" in text
    assert average[0].by_cases[1] > 0 > average[1].by_cases[1]


def test_the_words_about_longer_training_give_the_figures_of_the_result_files():
    groups = tables.with_baselines(tables.load_results(tables.RESULTS), load_definitions()["budgets"])
    report = tables.Report("recipe/isic2017", groups["recipe/isic2017"])
    text = " ".join((ROOT / "docs" / "validation.md").read_text().split())
    ja, boundary = (report.differences(metric)["recipe_epochs_24"] for metric in ("ja", "boundary_iou"))
    assert f"do: JA {ja.mean:+.3f}, Boundary IoU {boundary.mean:+.3f}. The two parts" in text
    assert ja.by_cases[0] < 0 < boundary.by_cases[0]

    official = tables.load_results(tables.RESULTS)["final/isic2017_official"]
    validation = {row[0] for row in official[0]["cases"]["rows"]}
    assert len(validation) == 121
    means = []
    for name in ("cpu/isic2017/banet", "recipe/isic2017/recipe_epochs_24"):
        rows = json.loads((tables.RESULTS / name / "seed0.json").read_text())["cases"]["rows"]
        parts = [[row[2] for row in rows if (row[0] in validation) == held] for held in (False, True)]
        assert [len(part) for part in parts] == [279, 121]
        means.append([np.mean(part) for part in parts])
    (short, short_val), (long, long_val) = means
    assert f"279 training pictures JA goes from {short:.3f} to {long:.3f}" in text
    assert f"121 official validation pictures from {short_val:.3f} to {long_val:.3f}" in text


def test_the_words_about_small_pictures_first_give_the_differences_of_the_result_files():
    groups = with_folds_together(tables.load_results(tables.RESULTS), load_definitions()["datasets"])
    text = " ".join((ROOT / "docs" / "validation.md").read_text().split())

    folds = tables.Report("final/isic2017_folds", groups["final/isic2017_folds"])
    ja, boundary, nsd, hd95 = (
        folds.differences(metric)["finer_sturdy"] for metric in ("ja", "boundary_iou", "nsd", "hd95")
    )
    assert f"JA {ja.mean:+.3f}, Boundary IoU {boundary.mean:+.3f}, NSD {nsd.mean:+.3f}, and all three" in text
    assert min(ja.by_cases[0], boundary.by_cases[0], nsd.by_cases[0]) > 0
    assert hd95.by_cases[0] < 0 < hd95.by_cases[1]

    first = tables.Report("final/isic2017_fold0", groups["final/isic2017_fold0"])
    assert f"loses {first.differences('ja')['gentle'].mean:+.3f}" in text


def test_the_words_about_the_official_pictures_give_the_figures_of_the_result_files():
    groups = with_folds_together(tables.load_results(tables.RESULTS), load_definitions()["datasets"])
    report = tables.Report("final/isic2017_official", groups["final/isic2017_official"])
    text = " ".join((ROOT / "docs" / "validation.md").read_text().split())
    ja, boundary = (report.differences(metric) for metric in ("ja", "boundary_iou"))
    small, finer = (report.scores[name].of("ja")[0] for name in ("banet", "finer_sturdy"))
    assert f"loses {ja['finer_sturdy'].mean:+.3f} of JA" in text
    assert f"from {np.median(small):.3f} to {np.median(finer):.3f}" in text
    worst = int((finer - small).argmin())
    assert f"(JA {finer[worst]:.3f} after {small[worst]:.3f})" in text
    assert ja["sturdy"].by_cases[0] < 0 < ja["sturdy"].by_cases[1]  # of the weights that shipped before
    assert boundary["sturdy"].by_cases[0] > 0

    mixed, before = (
        [np.mean(report.scores[name].of(metric)) for metric in ("ja", "boundary_iou")]
        for name in ("then_mixed_sizes", "sturdy")
    )
    assert f"end at JA {mixed[0]:.3f} and Boundary IoU {mixed[1]:.3f}: worse in both" in text
    assert mixed[0] < before[0]
    assert mixed[1] < before[1]

    filled, shares = {}, {}
    for name in ("final/isic2017_official", "final/isic2017_folds"):
        rows = next(result["cases"]["rows"] for result in groups[name] if result["experiment"] == "banet")
        filled[name] = sum(row[PIXELS] > 0.8 * 512 * 512 for row in rows)
        shares[name] = f"{100 * filled[name] / len(rows):.0f} %"
    of_121, of_1800 = shares.values()
    assert f"{filled['final/isic2017_official']} of the 121 take up more than four fifths of it ({of_121}, " in text
    assert f"against {of_1800} of the training pictures" in text

    cases = report.scores["banet"].cases
    early = {row["seed"]: row["cases"]["rows"] for row in groups["cpu/isic2017"] if row["experiment"] == "banet"}
    means = [np.mean([row[2] for row in rows if row[0] in cases]) for rows in early.values()]
    assert len(means) == 3
    span = f"{min(means):.2f} and {max(means):.2f}"
    words = f"the three seeds of BA-Net in the first table, at 128 pixels, reach between {span}"
    assert f"{words} on these 121" in text


def figures_of(name):
    """JA, Boundary IoU and the pixels of the lesion of every case of a run, by its number."""
    cases = json.loads((tables.RESULTS / f"{name}.json").read_text())["cases"]
    places = [cases["columns"].index(column) for column in FIGURES]
    return {int(row[0].removeprefix("ISIC_")): [row[place] for place in places] for row in cases["rows"]}


def interval_of_mean(values):
    drawn = np.random.default_rng(0).integers(0, len(values), (4000, len(values)))
    return values.mean(axis=0), np.quantile(values[drawn].mean(axis=1), [0.025, 0.975], axis=0)


def paired(after, before, numbers):
    """Mean difference of JA and Boundary IoU over pairs of runs and cases, with its interval over cases."""
    pairs = zip(after, before, strict=True)
    values = np.mean([[np.subtract(a[number][:2], b[number][:2]) for number in numbers] for a, b in pairs], axis=0)
    return interval_of_mean(values)


def test_the_words_about_pictures_drawn_by_number_give_the_figures_of_the_result_files():
    text = " ".join((ROOT / "docs" / "validation.md").read_text().split())
    official = set(figures_of("final/isic2017_official/banet/seed0"))
    training = {n: f for fold in range(3) for n, f in figures_of(f"final/isic2017_fold{fold}/banet/seed0").items()}
    assert [len(official), len(training)] == [121, 1800]
    late, last = ([sum(n >= least for n in part) for part in (official, training)] for least in (12_000, 15_000))
    assert f"official validation pictures {late[0]} of 121 carry numbers from 12000 on, of the training" in text
    assert f"{late[1]} of 1800; from 15000 on {last[0]} of 121 and {last[1]} of 1800" in text
    small = np.mean([f[2] for n, f in training.items() if 12_000 <= n < 13_000]) / 512**2
    large = np.mean([f[2] for n, f in training.items() if n >= 15_000]) / 512**2
    assert f"takes up {100 * small:.0f} % of the picture from 12000 to 12999, {100 * large:.0f} % from 15000 on" in text

    before = [figures_of(f"cpu/isic2017/banet/seed{seed}") for seed in (0, 1)]
    after = [figures_of(f"recipe/isic2017/recipe_matched/seed{seed}") for seed in (0, 1)]
    mean, (low, high) = paired(after, before, sorted(before[0]))
    assert f"Boundary IoU {mean[1]:+.3f} ({low[1]:.3f} to {high[1]:.3f}) with JA as it was ({mean[0]:+.3f})" in text
    assert low[0] < 0 < high[0]
    own = sorted(set(before[0]) - official)
    drawn_more = [number for number in own if number >= 12_000]
    mean, (low, high) = paired(after, before, drawn_more)
    assert f"On the {len(drawn_more)} of the 279 training pictures" in text
    assert f"JA rises by {mean[0]:+.3f} ({low[0]:.3f} to {high[0]:.3f}) and Boundary IoU by {mean[1]:+.3f}" in text
    assert f"({low[1]:.3f} to {high[1]:.3f}); on the other" in text
    mean, (low, high) = paired(after, before, [number for number in own if number < 12_000])
    assert f"on the other {len(own) - len(drawn_more)} JA changes by {mean[0]:+.3f}, and the interval holds 0" in text
    assert low[0] < 0 < high[0]

    after, before = (of_folds(name) for name in ("recipe_matched", "banet"))
    for words, late in (("from 12000 on", True), ("below", False)):
        numbers = [number for number in sorted(after) if (number >= 12_000) == late]
        mean, (low, high) = paired([after], [before], numbers)
        ja, boundary = (f"{mean[k]:+.3f} ({low[k]:.3f} to {high[k]:.3f})" for k in (0, 1))
        assert f"the {len(numbers)} {words} JA {ja} and Boundary IoU {boundary}" in text


def test_the_words_about_the_mean_of_networks_give_the_figures_of_the_result_files():
    text = " ".join((ROOT / "docs" / "validation.md").read_text().split())

    def ja(name, seed=0):
        return np.mean([row[0] for row in figures_of(f"final/isic2017_official/{name}/seed{seed}").values()])

    assert f"128 pixels, JA {ja('recipe_matched'):.3f})" in text
    first, second = (sorted(ja(name, seed) for seed in range(3)) for name in ("finer_matched", "again_matched"))
    assert f"each with its own seed: JA {first[0]:.3f} to {first[-1]:.3f}" in text
    assert f"reaches {ja('mean_matched'):.3f}, more than each of them" in text
    assert f"three go on again, {second[0]:.3f} to {second[-1]:.3f}" in text
    assert first[-1] < ja("mean_matched")

    third = sorted(ja("third_matched", seed) for seed in range(3))
    end = np.mean(list(figures_of("final/isic2017_official/third_mean_matched/seed0").values()), axis=0)
    assert f"({third[0]:.3f} to {third[-1]:.3f}) ends at {end[0]:.3f} and Boundary IoU {end[1]:.3f}" in text

    after = figures_of("final/isic2017_official/again_mean_matched/seed0")
    before = figures_of("final/isic2017_official/sturdy/seed0")
    mean, (low, high) = paired([after], [before], sorted(after))
    words = (
        f"{mean[k]:+.3f} of {name} ({low[k]:.3f} to {high[k]:.3f})" for k, name in enumerate(("JA", "Boundary IoU"))
    )
    assert f"{' and '.join(words)} over the weights that shipped before" in text
    assert (low > 0).all()
    ships = np.mean(list(after.values()), axis=0)
    assert f"and their mean reaches {ships[0]:.3f} ({ships[0]:.4f}) and Boundary IoU {ships[1]:.3f}" in text

    edgeless = sorted(ja("edgeless_matched", seed) for seed in range(3))
    end = np.mean(list(figures_of("final/isic2017_official/edgeless_mean_matched/seed0").values()), axis=0)
    assert (
        f"reach {edgeless[0]:.3f} to {edgeless[-1]:.3f}, and their mean {end[0]:.3f} and Boundary IoU {end[1]:.3f}"
        in text
    )


def test_the_words_about_small_parts_give_the_figures_of_the_result_files():
    text = " ".join((ROOT / "docs" / "validation.md").read_text().split())
    found = json.loads((RESULTS / "skin_lesion_parts.json").read_text())
    assert found["runs"] == [f"final/isic2017_fold{fold}/mean_of_two_matched/seed0" for fold in (1, 2)]
    rows = {row["share"]: row for row in found["shares"]}
    tenth, fifth, largest = (rows[share] for share in (0.1, 0.2, 1.0))

    def difference(row, name, digits):
        low, high = row[name]["interval"]
        return f"{row[name]['difference']:+.{digits}f} ({low:.{digits}f} to {high:.{digits}f})", low, high

    assert f"{found['cases']} training pictures" in text
    assert f"changes {tenth['changed']} masks: JA rises in {tenth['better']} and falls in {tenth['worse']}" in text
    for name, words, digits in (("ja", "by", 4), ("boundary_iou", "Boundary IoU changes by", 4), ("nsd", "NSD by", 4)):
        words_of_it, low, _ = difference(tenth, name, digits)
        assert f"{words} {words_of_it}" in text
        assert low > 0
    words_of_it, _, high = difference(tenth, "hd95", 1)
    assert f"HD95 by {words_of_it.replace(' (', ' pixels (')}" in text
    assert high < 0
    assert f"twice as much JA there ({largest['ja']['difference']:+.4f})" in text
    assert f"costs one picture {-fifth['worst']:.2f}, a tenth none more than {-tenth['worst']:.2f}" in text

    before = figures_of("final/isic2017_official/again_mean_matched/seed0")
    after = overall("skin_lesion_validation")["metrics"]
    ja = np.mean([row[0] for row in before.values()])
    assert f"from JA {ja:.4f} to {after['ja']['mean']:.4f}" in text
    result = json.loads((RESULTS.parents[1] / "benchmarks/accuracy/results" / AGAIN).read_text())
    kept = result["summary"]["overall"]["metrics"]["hd95"]["mean"]
    assert f"from {kept:.1f} to {after['hd95']['mean']:.1f} pixels of HD95" in text


def of_folds(experiment, seed=0):
    """Figures of all 1800 training pictures, each by the network that was trained without it."""
    folds = [figures_of(f"final/isic2017_fold{fold}/{experiment}/seed{seed}") for fold in range(3)]
    together = {number: figures for fold in folds for number, figures in fold.items()}
    assert [len(fold) for fold in folds] == [600] * 3
    assert len(together) == 1800
    return together


def test_the_words_about_the_recipe_on_three_folds_give_the_figures_of_the_result_files():
    text = " ".join((ROOT / "docs" / "validation.md").read_text().split())
    plain, finer, mean = (of_folds(name) for name in ("banet", "finer_sturdy", "mean_of_two_matched"))
    parts = [of_folds("finer_matched", seed) for seed in (0, 1)]
    late, early = ([n for n in sorted(mean) if (n >= 12_000) == is_late] for is_late in (True, False))
    assert [len(late), len(early)] == [802, 998]

    def change(after, before, numbers, k):
        middle, (low, high) = paired(after, before, numbers)
        return f"{middle[k]:+.3f} ({low[k]:.3f} to {high[k]:.3f})"

    def both(after, before, numbers):
        ja, boundary = (change(after, before, numbers, k) for k in (0, 1))
        return f"JA {ja} and Boundary IoU {boundary}"

    assert f"than BA-Net at 128 pixels by {both(parts, [plain] * 2, sorted(mean))}, and than" in text
    assert f"without drawing by number by {both(parts, [finer] * 2, sorted(mean))}" in text
    assert f"12000 on it is {both(parts, [plain] * 2, late)} over BA-Net, and {both(parts, [finer] * 2, late)}" in text
    assert f"998 below it is {both(parts, [plain] * 2, early)} over BA-Net" in text
    assert f"and JA {change(parts, [finer] * 2, early, 0)} over the finer one" in text
    ja, boundary = (change([mean] * 2, parts, sorted(mean), k) for k in (0, 1))
    assert f"changes JA by {ja} and Boundary IoU by {boundary} against the two" in text
    ja, boundary = (change([mean] * 2, parts, late, k) for k in (0, 1))
    assert f"(on the 802 by {ja} and {boundary})" in text


def test_the_words_about_the_hippocampus_in_slices_give_the_figures_of_both_runs():
    rows = {row["experiment"]: row for row in tables.load_results(tables.RESULTS)["tasks/hippocampus"]}
    whole, slices = rows["hippocampus_3d_longer"], rows["hippocampus_slices"]
    dice = [row["summary"]["overall"]["metrics"]["dice"]["mean"] for row in (slices, whole)]
    text = " ".join((ROOT / "docs" / "validation.md").read_text().split())
    assert f"on the same 21 volumes: {dice[0]:.3f}, and {dice[1]:.3f} in 3D" in text

    def paired(column):
        place = whole["cases"]["columns"].index(column)
        of = [{tuple(case[:2]): case[place] for case in row["cases"]["rows"]} for row in (whole, slices)]
        volumes = sorted({name for name, _ in of[0]})
        differences = [np.mean([of[1][key] - of[0][key] for key in of[0] if key[0] == name]) for name in volumes]
        drawn = np.random.default_rng(0).choice(differences, (5000, len(differences))).mean(axis=1)
        return np.mean(differences), *np.quantile(drawn, [0.025, 0.975])

    mean, low, _ = paired("boundary_iou")
    assert f"Boundary IoU is {mean:+.3f} better" in text
    assert low > 0
    for column in ("dice", "hd95", "nsd"):
        _, low, high = paired(column)
        assert low < 1e-3, column
        assert high > -1e-3, column


def test_the_words_about_worse_pictures_give_the_figures_of_both_weights():
    def ja(name):
        conditions = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())["conditions"]
        return {(c["corruption"], c["amount"]): c["ja"]["mean"] for c in conditions}

    now, before = ja("robustness"), ja("robustness_earlier_weights")
    text = " ".join((ROOT / "docs" / "validation.md").read_text().split())
    for words, shift in (
        ("with noise of 0.12 JA", ("noise", 0.12)),
        ("with 40 hairs", ("hair", 40)),
        ("at a fifth of the contrast", ("contrast", 0.2)),
        ("but at a fifth of the brightness", ("dark", 0.2)),
    ):
        assert f"{words} {now[shift]:.3f} after {before[shift]:.3f}" in text
    after, earlier = (
        json.loads((tables.RESULTS / f"final/isic2017_official/{name}/seed0.json").read_text())["summary"]["overall"]
        for name in ("again_mean_matched", "sturdy")
    )
    for words, name in (("JA is", "ja"), ("Boundary IoU", "boundary_iou")):
        mean, past = (content["metrics"][name]["mean"] for content in (after, earlier))
        assert f"{words} {mean:.4f} after {past:.4f}" in text


def test_the_words_about_pictures_without_a_lesion_give_the_figures_of_the_result_files():
    def background(name):
        return json.loads((RESULTS / f"skin_lesion_background{name}.json").read_text())

    text = " ".join((ROOT / "docs" / "validation.md").read_text().split())
    card = " ".join((ROOT / "bundle" / "docs" / "README.md").read_text().split())
    now = background("")
    shipped = hashlib.sha256((ROOT / "bundle" / "models" / "model.pt").read_bytes()).hexdigest()
    assert shipped.startswith(now["weights"])
    assert f"cut out of {now['squares']} of the {len(now['of_pictures'])} validation pictures" in text
    low, high = now["alarm_interval"]
    rate = f"({now['alarm_rate']:.0%}, interval {low:.0%} to {high:.0%}), on average {now['mean_share']:.0%}"
    assert f"in {now['alarms']} of {now['squares']}** {rate.replace('%', ' %')} of its pixels" in text
    assert f"in {now['alarms_above_limit']} of these {now['alarms']} it lies above {now['limit']:.2f}" in text
    assert f"the higher number of the two in {100 * now['auc']:.0f} % of all pairs" in text
    assert f"of {now['squares']} squares of skin" in card
    assert f"is outlined in {now['alarms']}. " in card
    assert f"{now['alarms_above_limit']} of these have a number above {now['limit']:.2f}" in card

    before = figures_of("final/isic2017_official/again_mean_matched/seed0")
    wary = figures_of("final/isic2017_official/wary_mean_matched/seed0")
    ja, boundary = np.mean(list(wary.values()), axis=0)[:2]
    mean, (low, high) = paired([wary], [before], sorted(before))
    changes = [f"({mean[k]:+.3f}, {low[k]:.3f} to {high[k]:.3f})" for k in (0, 1)]
    found = background("_wary")
    assert f"leave {found['alarms']} of {found['squares']} ({100 * found['alarm_rate']:.0f} %). JA is then" in text
    assert (
        f"JA is then {ja:.3f} {changes[0]} and Boundary IoU {boundary:.3f} {changes[1]}, and one lesion is missed"
        in text
    )
    rarely = np.mean(list(figures_of("final/isic2017_official/rarely_wary_mean_matched/seed0").values()), axis=0)[0]
    found = background("_rarely_wary")
    assert f"leave {found['alarms']} of {found['squares']} at JA {rarely:.3f}" in text
    single = sorted(
        np.mean([row[0] for row in figures_of(f"final/isic2017_official/{name}/seed{seed}").values()])
        for name in ("wary_matched", "rarely_wary_matched")
        for seed in range(3)
    )
    assert f"single networks lie between {single[0]:.3f} and {single[-1]:.3f}" in text
