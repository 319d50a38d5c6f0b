//! Thresholds, and who is asked next.

use super::*;
use crate::intake::{Ask, Classification};
use crate::router::facts::Reach;
use crate::router::policy::tests::{ALL_OPEN, request, sealed, ways};
use crate::router::{Persons, Policy};

fn request_for(task: &str, classification: Classification) -> Request {
    let ask = Ask::Task {
        task: task.into(),
        input: "spindle".into(),
    };
    sealed(Request {
        ask,
        ..request(classification)
    })
}

fn router() -> Router {
    let bar = |threshold, verify| TaskBar { threshold, verify };
    Router {
        policy: Policy::reference(ways()),
        bars: Bars {
            tasks: BTreeMap::from([
                ("triage".to_owned(), bar(0.8, false)),
                ("stop".to_owned(), bar(0.5, true)),
            ]),
            ..Bars::default()
        },
        ..Router::default()
    }
}

fn said(by: By, confidence: f32) -> Said {
    Said {
        by,
        confidence: Some(confidence),
    }
}

#[test]
fn the_site_s_threshold_goes_before_the_task_s_and_the_task_s_before_none() {
    let mut bars = router().bars;
    assert_eq!(bars.of(By::Edge, Some("triage")), Some(0.8));
    assert_eq!(bars.of(By::Edge, Some("unknown")), Some(THRESHOLD));
    assert_eq!(bars.of(By::Edge, None), None);
    assert_eq!(bars.of(By::Cloud, Some("triage")), Some(0.8));
    bars.cloud = Some(0.3);
    assert_eq!(bars.of(By::Cloud, Some("triage")), Some(0.3));
    bars.site = Some(0.9);
    assert_eq!(bars.of(By::Edge, Some("triage")), Some(0.9));
    assert_eq!(bars.of(By::Edge, None), Some(0.9));
}

#[test]
fn an_answer_at_its_threshold_is_sure_and_one_below_or_without_number_is_not() {
    let router = router();
    let request = request_for("triage", Classification::Public);
    let judged = |confidence| router.judge(&request, &said(By::Edge, confidence));
    assert!(matches!(judged(0.8), Judgement::Sure(Some(_))));
    assert!(matches!(judged(0.79), Judgement::Doubt(_)));
    assert!(matches!(judged(f32::NAN), Judgement::Doubt(_)));
    let silent = Said {
        by: By::Cloud,
        confidence: None,
    };
    assert_eq!(router.judge(&request, &silent), Judgement::Sure(None));
}

#[test]
fn only_a_task_that_asks_for_it_is_verified() {
    let router = router();
    assert!(router.verifies(&request_for("stop", Classification::Public)));
    assert!(!router.verifies(&request_for("triage", Classification::Public)));
}

#[test]
fn the_cloud_comes_after_the_edge_and_a_person_after_the_cloud() {
    let router = router();
    let reaches = [Reach::Shut, Reach::Open];
    let situation = Situation {
        clouds: &reaches,
        ..ALL_OPEN
    };
    let public = request_for("triage", Classification::Public);
    let cloud = |name: &str| Tier::Cloud(name.into());
    let persons = Tier::Review(Persons::Everywhere);
    let names: Vec<_> = router.upstreams("default");
    let after = router.onward(Tier::Edge, &public, &situation);
    assert_eq!(after, [cloud(names[1]), cloud(names[0]), persons.clone()]);
    assert_eq!(
        router.onward(cloud(names[1]), &public, &situation),
        [persons]
    );
    let restricted = request_for("triage", Classification::Restricted);
    let after = router.onward(Tier::Edge, &restricted, &situation);
    assert_eq!(after, [Tier::Review(Persons::Here)]);
}

#[test]
fn a_rule_that_names_an_upstream_asks_no_other() {
    let rule = crate::router::Rule {
        name: "plant-only".into(),
        when: crate::router::When::default(),
        to: To::CloudAt("plant".into()),
    };
    let router = Router {
        policy: Policy::new(vec![rule], ways()),
        ..Router::default()
    };
    assert_eq!(router.upstreams("plant-only"), ["plant"]);
    assert!(router.upstreams("default").len() > 1);
}
