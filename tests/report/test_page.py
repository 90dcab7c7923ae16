"""The page in a real browser that has no network."""

from dataclasses import replace
from pathlib import Path

import pytest

from recalib.choose.advice import advise
from recalib.report import write_page

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
RUNTIMES = ["openvino", "onnxruntime", "eager"]  # the fastest first


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory, cells, machine):
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_page(path, cells, machine, advise(cells), "recalib compare resnet50 --out here")
    return path


@pytest.fixture(scope="module")
def report_of_three(tmp_path_factory, cells_of_three, machine):
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_page(path, cells_of_three, machine | {"note": "<b>bold</b>"}, advise(cells_of_three), "recalib '<i>'")
    return path


@pytest.fixture
def open_page(browser):
    """Opens a file, blocks every other request, and at the end asserts that nothing was asked for or went wrong."""
    contexts, complaints = [], []

    def opener(path, width=1280, theme="light", **options):
        context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=theme, offline=True, **options
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: request.url == path.as_uri() or complaints.append(request.url))
        page.goto(path.as_uri())
        return page

    yield opener
    for context in contexts:
        context.close()
    assert complaints == []


def texts(page, selector):
    return [text.strip() for text in page.locator(selector).all_inner_texts()]


def column(page, index):
    return texts(page, f".folded tbody tr:visible td:nth-child({index + 1})")


def choose(page, facet, value):
    page.select_option(f".filters select[data-facet={facet}]", value)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_opens_without_a_network_or_an_error_in_both_themes(open_page, report, cells, theme):
    page = open_page(report, theme=theme)
    assert page.title() == "Channel attention in resnet50"
    page.locator(".more summary").click()  # paragraphs are folded behind the verdict
    assert texts(page, ".advice p") == [line.replace(" %", "\xa0%").replace(" ms", "\xa0ms") for line in advise(cells)]
    assert texts(page, "pre") == ["recalib compare resnet50 --out here"]
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 24, 29)"}[theme]


@pytest.mark.parametrize("report_name", ["report", "report_of_three"])
def test_it_is_small(request, report_name):
    assert request.getfixturevalue(report_name).stat().st_size < 1_200_000


def test_the_button_changes_the_theme_of_page_and_charts(open_page, report):
    page = open_page(report)
    look = """['body', '.chart text'].map(of => getComputedStyle(document.querySelector(of)))
        .map(style => [style.backgroundColor, style.fill])"""
    before = page.evaluate(look)
    page.click("#theme")
    during = page.evaluate(look)
    assert before[0][0] != during[0][0]  # the page's ground
    assert before[1][1] != during[1][1]  # a chart's text
    page.click("#theme")
    assert page.evaluate(look) == before


@pytest.mark.parametrize("report_name", ["report", "report_of_three"])
def test_on_a_phone_nothing_scrolls_sideways_but_the_table(open_page, request, report_name):
    page = open_page(request.getfixturevalue(report_name), width=360)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.evaluate("(e => e.scrollWidth > e.clientWidth)(document.querySelector('.scroll'))")
    shown = page.locator(".chart svg:visible").all()
    assert shown
    assert all(svg.bounding_box()["x"] + svg.bounding_box()["width"] <= 360 for svg in shown)
    sizes = page.evaluate(
        """[...document.querySelectorAll('.chart svg')].filter(e => e.clientWidth)
            .map(e => e.clientWidth / e.viewBox.baseVal.width)"""
    )
    assert min(sizes) > 0.9  # texts of 12 px stay readable


def test_a_click_sorts_a_column_by_its_numbers_and_a_second_turns_it_round(open_page, report):
    page = open_page(report)
    choose(page, "runtime", "")
    head = page.locator("th[data-column='8']")  # deployed, ms; gct in OpenVINO has none
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    rising = column(page, 8)
    assert rising[-1] == ""
    assert [float(text) for text in rising[:-1]] == sorted(float(text) for text in rising[:-1])
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert column(page, 8) == [*reversed(rising[:-1]), ""]


def test_names_sort_from_the_keyboard_and_only_one_column_is_sorted(open_page, report):
    page = open_page(report)
    choose(page, "runtime", "")
    page.locator("th[data-column='3'] button").press("Enter")
    assert [int(text.replace(",", "")) for text in column(page, 3)][::23] == [25_557_032, 44_549_160]
    page.locator("th[data-column='0'] button").press("Enter")
    assert column(page, 0) == sorted(column(page, 0))
    assert page.locator("th[aria-sort='ascending']").count() == 1


def test_the_whole_table_fits_a_desktop(open_page, report):
    page = open_page(report)
    choose(page, "runtime", "")
    assert texts(page, ".folded thead tr:last-child th")[-1] == "set-up, s"
    assert page.evaluate("(e => e.scrollWidth == e.clientWidth)(document.querySelector('.scroll'))")


def test_a_cell_without_a_time_says_why(open_page, report):
    page = open_page(report)
    choose(page, "runtime", "")
    assert texts(page, "td.bad") == ["unsupported"]
    problems = texts(page, ".problems li")
    assert problems == [
        "noisy\nresnet50, srm, eager, as inserted: the samples vary by 4.1 % (more than 2.5 %)",
        "unsupported: operator ReduceL2 with dynamic axes is not supported\nresnet50, gct, openvino, deployed",
    ]


def test_the_charts_show_every_module_that_can_be_placed(open_page, report):
    page = open_page(report)
    wide = page.locator(".tradeoff:visible .wide")
    assert wide.count() == 2
    assert wide.nth(0).locator("[aria-roledescription=point]").count() == 6  # plain, and five with a published accuracy
    assert wide.nth(1).locator("[aria-roledescription=point]").count() == 8  # those, and two rungs of the ladder
    assert page.locator(".verdicts [aria-roledescription=bar]").count() == 12  # the first of these, beside the verdict
    bars = page.locator(".panels:not(.tradeoff) .chart")
    # six modules and the plain network as inserted, six modules deployed; OpenVINO lacks one
    assert [bars.nth(i).locator("[aria-roledescription=bar]").count() for i in range(3)] == [12, 13, 13]
    written = page.locator(".chart text").all_text_contents()
    assert {"ImageNet top-1, % (published)", "overhead over the plain network, %", "median latency, ms"} <= {*written}


def test_one_runtime_is_shown_at_a_time_and_the_fastest_first(open_page, report):
    page = open_page(report)
    assert set(page.locator("[data-facet=runtime] option").all_inner_texts()) == {"all", *RUNTIMES}
    assert page.locator(".tradeoff:visible").get_attribute("data-runtime") == "openvino"
    assert {*texts(page, ".folded tbody tr:visible td:first-child")} >= {"plain", "ab", "se"}
    assert page.locator(".folded tbody tr:visible").count() == 8
    choose(page, "runtime", "eager")
    assert page.locator(".tradeoff:visible").get_attribute("data-runtime") == "eager"
    choose(page, "runtime", "")
    assert page.locator(".tradeoff:visible").count() == 3


def test_a_pointer_over_a_mark_shows_its_numbers(open_page, report):
    page = open_page(report)
    assert page.locator("#tip").is_hidden()
    page.locator(".tradeoff:visible .wide [aria-label^='se in resnet50']").first.hover()
    assert texts(page, "#tip") == [
        "se in resnet50: 21.52 ms, top-1 76.98 % (Klomp 2023), +1.29 points for +6.0 % [4.7, 7.3]"
    ]
    page.mouse.move(1, 1)
    assert page.locator("#tip").is_hidden()


def test_without_scripts_and_on_paper_everything_is_there(open_page, report):
    page = open_page(report, java_script_enabled=False)
    assert page.locator(".tradeoff:visible").count() == 3
    assert page.locator("#theme").is_hidden()
    printed = open_page(report)
    printed.emulate_media(media="print")
    assert printed.locator(".tradeoff:visible").count() == 3


def test_what_it_shows_is_shown_not_run(open_page, report_of_three, cells_of_three):
    page = open_page(report_of_three)  # which fails on any dialog, request or error
    hostile = cells_of_three[-1].model
    assert hostile in page.inner_text("h1")
    choose(page, "runtime", "")
    assert hostile in column(page, 1)
    assert page.locator("main img, main script, main b b, pre i").count() == 0
    assert "<b>bold</b>" in texts(page, "dd")


def test_each_network_has_its_own_charts_and_advice(open_page, report_of_three):
    page = open_page(report_of_three)
    assert [text.partition(",")[0] for text in texts(page, ".tradeoff:visible h4")] == [
        "resnet18",
        "resnet50",
        "All networks",
    ]
    assert len(texts(page, ".advice li")) == 9
    assert page.locator(".verdict").count() == 3
    assert len(texts(page, "h3")) == 4  # three networks' overheads, and the published accuracies


def test_a_run_that_measured_nothing_still_has_a_page(open_page, tmp_path):
    path = tmp_path / "report.html"
    write_page(path, [], {}, advise([]), "recalib compare")
    page = open_page(path, width=360)
    assert page.locator("svg").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") == 360


@pytest.fixture(scope="module")
def report_of_a_grid(tmp_path_factory, cells, machine):
    path = tmp_path_factory.mktemp("page") / "grid.html"
    kept = [cell for cell in cells if cell.runtime != "onnxruntime"]
    grid = [replace(cell, size=size) for size in (224, 320) for cell in kept]
    write_page(path, grid, machine, advise(kept), "recalib report grid.json")
    return path


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_the_figures_of_a_grid_are_chosen_by_runtime_and_resolution(open_page, report_of_a_grid, width, theme):
    page = open_page(report_of_a_grid, width=width, theme=theme)
    times = page.locator("#figure-3")
    choose(page, "runtime", "eager")
    assert times.locator("h4:visible").all_inner_texts() == ["eager, fp32, 224 px, batch 1"]
    choose(page, "runtime", "openvino")
    choose(page, "resolution", "320")
    assert times.locator("h4:visible").all_inner_texts() == ["openvino, fp32, 320 px, batch 1"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_settings_are_columns_and_rows_are_chosen_by_them(open_page, report_of_a_grid):
    page = open_page(report_of_a_grid)
    table = page.locator("#measurements")
    rows = table.locator("tbody tr:visible")
    assert rows.count() == 8  # the chosen setting: one size and runtime, six modules, the plain network, a deeper one
    assert table.locator("th[data-facet=resolution]").is_hidden()  # which then says nothing
    choose(page, "runtime", "")
    choose(page, "resolution", "")
    assert table.locator("th[data-facet=resolution]").inner_text() == "resolution"
    assert rows.count() == 32
    choose(page, "resolution", "320")
    assert {*rows.locator("td:nth-child(4)").all_text_contents()} == {"320"}
    choose(page, "runtime", "openvino")
    assert {*rows.locator("td:nth-child(3)").all_text_contents()} == {"openvino"}


def test_the_first_column_stays_where_the_table_is_wider_than_the_screen(open_page, report_of_a_grid):
    page = open_page(report_of_a_grid, width=390)
    first = page.locator("#measurements tbody tr:visible td:first-child").first
    before = first.bounding_box()["x"]
    page.evaluate("document.querySelector('#measurements .scroll').scrollLeft = 200")
    assert first.bounding_box()["x"] == before


def test_the_contents_lead_to_every_section(open_page, report_of_a_grid):
    page = open_page(report_of_a_grid)
    anchors = page.locator(".contents a").evaluate_all("all => all.map(a => a.getAttribute('href').slice(1))")
    assert anchors == page.locator("section").evaluate_all("all => all.map(section => section.id)")


def test_a_large_page_has_its_charts_compressed(open_page, tmp_path, cells, machine):
    path = tmp_path / "large.html"
    grid = [replace(cell, size=size) for size in (160, 192, 224, 256) for cell in cells]
    write_page(path, grid, machine, [], "recalib report grid.json")
    assert path.stat().st_size < 1_000_000
    assert path.read_text().count("<svg font") == 1  # that beside the verdict
    page = open_page(path)
    page.wait_for_function("!document.querySelector('[data-packed]')")
    assert page.locator("#overhead .chart:visible svg").count() > 1


def test_what_befalls_most_cells_is_no_warning(open_page, tmp_path, cells, machine):
    path = tmp_path / "noisy.html"
    write_page(path, [replace(cell, warnings=["noisy"]) for cell in cells], machine, [], "recalib report")
    page = open_page(path)
    assert "noisy" not in "".join(texts(page, ".problems b"))
    assert f"Noisy: {len(cells)} of {len(cells)} cells" in page.locator("#made").inner_text()


def test_what_cannot_be_told_from_plain_is_grey_in_table_and_bars(open_page, tmp_path, cells, machine):
    path = tmp_path / "grey.html"
    same = replace(cells[2].overhead, p=0.7, distinguishable=False)
    write_page(path, [*cells[:2], replace(cells[2], overhead=same), *cells[3:14]], machine, advise(cells), "recalib")
    page = open_page(path)
    assert page.locator("td.same").count() == 1
    assert page.locator(".panels .chart [aria-roledescription=bar][stroke*='--muted']").count() == 1
    label = page.locator(".panels .chart [aria-roledescription=bar][stroke*='--muted']").get_attribute("aria-label")
    assert label.startswith("ab in eager, as inserted: +10.2 %")
    assert label.endswith("not distinguishable from none")


def test_it_says_how_many_processes_its_intervals_are_of(tmp_path, cells, machine):
    cells = [cell for cell in cells if cell.latency_ms]
    several = [replace(cell, latency_ms=replace(cell.latency_ms, processes=[10, 10, 20])) for cell in cells]
    rounds = "one process, whose intervals hold what differs from round to round, not from one process to the next."
    for given, said in [
        (cells, f"Every cell was measured by {rounds}"),
        (several, "Every cell was measured by 3 processes, far apart in time."),
        ([*several[:2], *cells[2:5]], f"Measured were 2 cells by 3 processes, far apart in time; 3 cells by {rounds}"),
    ]:
        write_page(tmp_path / "report.html", given, machine, [], "recalib report")
        assert said in (tmp_path / "report.html").read_text()


def test_table_2_of_a_grid_is_a_part_of_the_page(open_page, report_of_a_grid):
    page = open_page(report_of_a_grid)
    table = page.locator("#table-2")
    choose(page, "resolution", "320")
    choose(page, "runtime", "")
    rows = table.locator("tbody tr:visible").all_inner_texts()
    assert len(rows) == 16
    assert any(row.split("\t")[:2] == ["resnet50", "se"] and "76.98 / 93.44\tKlomp 2023" in row for row in rows)


def test_published_overheads_stand_beside_the_measured_ones_and_are_called_published(open_page, report):
    page = open_page(report)
    panel = page.locator("section h4", has_text="PyTorch, published").locator("..")
    marks = panel.locator("[aria-roledescription=bar]").evaluate_all("all => all.map(e => e.ariaLabel)")
    assert "eca in PyTorch, Klomp 2023, as inserted: +45.5 %" in marks
    assert "RTX 2080 Ti" in panel.locator("xpath=ancestor::section").inner_text()


def test_pointing_at_a_curve_tells_its_overhead_and_interval(open_page, report_of_a_grid):
    page = open_page(report_of_a_grid)
    page.locator("#figure-5 .chart:visible path[aria-label^='plain resnet101']").first.hover(force=True)
    assert "plain resnet101, 224 px, batch 1, fp32: +" in page.locator("#tip").inner_text()
    assert "over plain resnet50" in page.locator("#tip").inner_text()
