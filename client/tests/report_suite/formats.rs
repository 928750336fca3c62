//! The formats of a report.

use coffer_client::report::{LIMITS, Report};
use serde_json::Value;

use super::fixture::World;

#[test]
fn the_same_material_makes_the_same_report_byte_for_byte() {
    let (one, two) = (World::good().material(), World::good().material());
    let (one, two) = (Report::new(&one), Report::new(&two));
    assert_eq!(one.html(true), two.html(true));
    assert_eq!(one.csv(), two.csv());
    assert_eq!(one.pdf(), two.pdf());
    assert_eq!(one.oscal().files, two.oscal().files);
}

#[test]
fn a_page_asks_for_nothing_runs_nothing_and_lets_no_name_out_of_its_place() {
    let material = World::good().material();
    let page = Report::new(&material).html(false);
    for never in ["<script", "http://", "https://", "src=", "@import", "url(", "demo <b>"] {
        assert!(!page.contains(never), "{never}");
    }
    assert!(page.contains("demo &lt;b&gt;&quot;&amp;&#39;"));
    for limit in LIMITS {
        assert!(page.contains(limit.what.split('.').next().unwrap()), "{}", limit.what);
    }
}

#[test]
fn every_link_of_a_page_leads_to_something_on_it() {
    let material = World::good().material();
    let page = Report::new(&material).html(false);
    let mut links = 0;
    for link in page.split("href=\"#").skip(1) {
        let anchor = link.split('"').next().unwrap();
        assert!(page.contains(&format!("id=\"{anchor}\"")), "{anchor}");
        links += 1;
    }
    assert!(links > 50, "{links}");
}

#[test]
fn a_table_has_one_line_for_each_check() {
    let material = World::good().material();
    let report = Report::new(&material);
    assert_eq!(report.csv().matches("\r\n").count(), report.findings.len() + 1);
    assert_eq!(report.residency_csv().unwrap().matches("\r\n").count(), 4);
}

#[test]
fn there_is_an_item_to_do_for_each_objective_that_is_not_satisfied_and_no_plan_without_one() {
    let material = World::good().material();
    let names = |report: &Report<'_>| report.oscal().files.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    assert!(!names(&Report::new(&material)).contains(&"plan-of-action-and-milestones.json"));
    let mut world = World::good();
    world.records.clear();
    let material = world.material();
    let report = Report::new(&material);
    let files = report.oscal().files;
    let (_, bytes) = files.iter().find(|(name, _)| name.starts_with("plan-of-action")).unwrap();
    let plan: Value = serde_json::from_slice(bytes).unwrap();
    let items = plan["plan-of-action-and-milestones"]["poam-items"].as_array().unwrap();
    assert_eq!(items.len(), report.failed().count());
    assert!(items.len() >= 5);
}
