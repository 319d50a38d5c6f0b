//! Records come back as they were written, by this version and by every later one.

use proptest::prelude::*;

use super::*;
use crate::engine::{Choice, Completion, Finish, Form, FreeChoice, Model, Tokens};
use crate::package::Features;
use crate::reply::{Elsewhere, Source};
use crate::spool::record::{VERSION, unseal};
use crate::ticket::{Requeue, Step, What, Why};

mod longest;

/// A record that no run made up: each form with every optional part.
fn waiting() -> Waiting {
    Waiting {
        no: TicketNo(300),
        accepted: Wall(1_800_000_000_000),
        request: Request {
            id: RequestId::Given("press7-1".into()),
            client: Client::Proven("press7".into()),
            ask: Ask::Task {
                task: "triage".into(),
                input: "9.8 mm/s".into(),
            },
            classification: Classification::Restricted,
            risk: Some(80),
            complexity: Some(0.5),
            priority: Priority::High,
            deadline: Duration::from_secs(2),
            late: Late::No,
            max_tokens: Some(128),
            schema: Some("{}".into()),
            stream: Stream::Yes,
            detail: Detail::Whole,
            reply: address(),
            content: Digest([7; 16]),
        },
        topic: None,
        course: None,
    }
}

/// The same with all that came to be known later.
fn decided() -> Waiting {
    let plain = waiting();
    Waiting {
        request: Request {
            late: Late::Yes,
            ..plain.request
        },
        topic: Some("lineside/A/request/press7".into()),
        course: Some(Course {
            route: Route {
                rule: "default".into(),
                reasons: vec!["the cloud is out of reach".into()],
            },
            degraded: true,
            owed: true,
            told: true,
        }),
        ..plain
    }
}

fn draft(source: Source) -> Draft {
    let figures = [-0.5, -0.25, -0.125, 0.5, 0.75];
    Draft {
        source,
        completion: Completion {
            text: "stop".into(),
            confidence: 0.5,
            choices: vec![Choice {
                label: "stop".into(),
                logprob: -0.5,
            }],
            model: Model {
                package: "p".into(),
                seq: 7,
                digest: "sha256:00".into(),
                prompt_version: "3".into(),
                standing: None,
            },
            tokens: Tokens {
                prompt: 9,
                cached: 8,
                completion: 1,
            },
            ..Completion::default()
        },
        features: Some(Features::of_figures(figures, Some(0.5), 4)),
    }
}

fn passed() -> Passed {
    Passed {
        waiting: decided(),
        why: Why::Doubt {
            confidence: 0.5,
            threshold: 0.75,
        },
        draft: Some(draft(Source::Edge)),
        since: Wall(1_800_000_000_500),
        expires: Wall(1_800_000_900_500),
    }
}

fn address() -> ReturnAddress {
    ReturnAddress::Topic {
        topic: "devices/press7/answers".into(),
        correlation: Some(vec![0, 255]),
        user_properties: vec![("k".into(), "v".into())],
    }
}

fn filed() -> Filed {
    Filed {
        no: TicketNo(300),
        scope: "p:press7".into(),
        id: RequestId::Made("00ff-1".into()),
        content: Digest([7; 16]),
        accepted: Wall(1_800_000_000_000),
        settled: Wall(1_800_000_001_000),
        verdict: "answered".into(),
        rule: "edge".into(),
        steps: 3,
        reply: b"{}".to_vec(),
    }
}

fn letter() -> Letter {
    Letter {
        no: TicketNo(300),
        step: 2,
        topic: "devices/press7/answers".into(),
        correlation: Some(vec![0, 255]),
        user_properties: vec![("k".into(), "v".into())],
        payload: b"{}".to_vec(),
    }
}

fn step(what: What) -> Step {
    Step {
        at: Wall(1_800_000_000_000),
        what,
    }
}

fn hex(bytes: &[u8]) -> String {
    let hex: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    hex.concat()
}

fn bytes(hex: &str) -> Vec<u8> {
    let hex: String = hex.split_whitespace().collect();
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

#[track_caller]
fn assert_golden<T: PartialEq + std::fmt::Debug>(
    golden: &str,
    record: &T,
    sealed: &[u8],
    read: impl Fn(&[u8]) -> Result<T, Damage>,
) {
    let golden = bytes(golden);
    assert_eq!(
        hex(sealed),
        hex(&golden),
        "the format changed: devices in the field hold records of version {VERSION}"
    );
    assert_eq!(read(unseal(&golden).unwrap()).as_ref(), Ok(record));
}

#[track_caller]
fn assert_reads<T: PartialEq + std::fmt::Debug>(
    golden: &str,
    record: &T,
    read: impl Fn(&[u8]) -> Result<T, Damage>,
) {
    assert_eq!(read(unseal(&bytes(golden)).unwrap()).as_ref(), Ok(record));
}

#[test]
fn a_waiting_request_of_before_reads_as_it_did() {
    let golden = "01ac0280a0f1c2b13400087072657373372d310006707265737337010674726961676508392e3820 \
        6d6d2f73020150010000003f00d00f01800101027b7d010116646576696365732f7072657373372f \
        616e7377657273010200ff01016b017607070707070707070707070707070707ac96739d";
    assert_reads(golden, &waiting(), Waiting::read);
}

#[test]
fn the_plainest_waiting_request_of_before_reads_as_it_did() {
    let full = waiting();
    let plain = Waiting {
        request: Request {
            id: RequestId::Made("0".into()),
            client: Client::Anonymous,
            ask: Ask::Prompt("hi".into()),
            classification: Classification::Public,
            risk: None,
            complexity: None,
            priority: Priority::Low,
            max_tokens: None,
            schema: None,
            stream: Stream::No,
            detail: Detail::Whole,
            reply: ReturnAddress::Local,
            ..full.request
        },
        ..full
    };
    let golden = "01ac0280a0f1c2b134010130020002686900000002d00f0000000007070707070707070707070707 \
        0707078d629be9";
    assert_reads(golden, &plain, Waiting::read);
}

#[test]
fn version_1_of_a_waiting_request_is_these_bytes() {
    let golden = "01ac0280a0f1c2b13400087072657373372d310006707265737337010674726961676508392e3820 \
        6d6d2f73020150010000003f00d00f01800101027b7d010116646576696365732f7072657373372f \
        616e7377657273010200ff01016b0176070707070707070707070707070707070101196c696e6573 \
        6964652f412f726571756573742f707265737337010764656661756c74011974686520636c6f7564 \
        206973206f7574206f662072656163680101013a303706";
    assert_golden(golden, &decided(), &decided().seal(), Waiting::read);
}

#[test]
fn version_1_of_a_request_that_was_passed_on_is_these_bytes() {
    let golden = "01ac0280a0f1c2b13400087072657373372d310006707265737337010674726961676508392e3820 \
        6d6d2f73020150010000003f00d00f01800101027b7d010116646576696365732f7072657373372f \
        616e7377657273010200ff01016b0176070707070707070707070707070707070101196c696e6573 \
        6964652f412f726571756573742f707265737337010764656661756c74011974686520636c6f7564 \
        206973206f7574206f66207265616368010101010000003f0000403f01000473746f700000000000 \
        3f00010473746f70000000bf017007097368613235363a3030013309080101000000000000e0bf00 \
        0000000000d0bf000000000000c0bf000000000000e03f000000000000e83f01000000000000e03f \
        04f4a3f1c2b134949ba8c3b13411864b56";
    assert_golden(golden, &passed(), &passed().seal(), Passed::read);
}

#[test]
fn version_1_of_an_outcome_is_these_bytes() {
    let golden = "01ac0208703a7072657373370106303066662d310707070707070707070707070707070780a0f1c2 \
        b134e8a7f1c2b13408616e737765726564046564676503027b7d93a0948f";
    assert_golden(golden, &filed(), &filed().seal(), Filed::read);
}

#[test]
fn version_1_of_a_letter_is_these_bytes() {
    let golden = "01ac020216646576696365732f7072657373372f616e7377657273010200ff01016b0176027b7d90 \
        515c78";
    assert_golden(golden, &letter(), &letter().seal(), Letter::read);
}

#[test]
fn version_1_of_each_step_is_these_bytes() {
    for (what, golden) in [
        (
            What::AlsoTo(address()),
            "0180a0f1c2b134000116646576696365732f7072657373372f616e7377657273010200ff01016b01 \
        76a5810904",
        ),
        (
            What::AlsoTo(ReturnAddress::Local),
            "0180a0f1c2b1340000ed43552e",
        ),
        (What::Started, "0180a0f1c2b13401cd2c2399"),
        (What::Requeued(Requeue::Busy), "0180a0f1c2b13402777d2a00"),
        (What::Requeued(Requeue::Crashed), "0180a0f1c2b13403e14d2d77"),
        (What::Delivered, "0180a0f1c2b1340442d849e9"),
        (What::Undeliverable, "0180a0f1c2b13405d4e84e9e"),
        (
            What::Passed(Why::Rule("r".into())),
            "0180a0f1c2b13406000172acdfa7c7",
        ),
        (
            What::Passed(Why::Doubt {
                confidence: 0.5,
                threshold: 0.75,
            }),
            "0180a0f1c2b13406010000003f0000403f77a1ad55",
        ),
        (What::Asked, "0180a0f1c2b13407f8894070"),
        (
            What::Returned("slow".into()),
            "0180a0f1c2b1340804736c6f77d25b0761",
        ),
        (What::StoodIn, "0180a0f1c2b13409ffa4f897"),
        (What::ToPerson(Why::EdgeShut), "0180a0f1c2b1340a024bcab43a"),
        (
            What::ToPerson(Why::Verification),
            "0180a0f1c2b1340a03ddfab34d",
        ),
        (
            What::ToPerson(Why::Failed("slow".into())),
            "0180a0f1c2b1340a0404736c6f778ef39520",
        ),
        (What::Provisional, "0180a0f1c2b1340bd3c5f679"),
        (What::LateAnswer, "0180a0f1c2b1340c705092e7"),
    ] {
        let step = step(what);
        assert_golden(golden, &step, &seal_step(&step).unwrap(), read_step);
    }
}

#[test]
fn the_first_and_the_deciding_step_have_no_record_of_their_own() {
    use crate::ticket::Verdict;
    assert_eq!(seal_step(&step(What::Accepted)), None);
    assert_eq!(seal_step(&step(What::Settled(Verdict::Answered))), None);
}

#[test]
fn a_record_with_something_behind_it_is_damaged() {
    let sealed = letter().seal();
    let mut body = unseal(&sealed).unwrap().to_vec();
    body.push(0);
    assert_eq!(Letter::read(&body), Err(Damage::Content));
}

fn any_text() -> impl Strategy<Value = String> {
    ".{0,40}"
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..60)
}

fn any_address() -> impl Strategy<Value = ReturnAddress> {
    let pairs = prop::collection::vec((any_text(), any_text()), 0..3);
    prop_oneof![
        1 => Just(ReturnAddress::Local),
        3 => (any_text(), prop::option::of(any_bytes()), pairs).prop_map(
            |(topic, correlation, user_properties)| ReturnAddress::Topic {
                topic,
                correlation,
                user_properties,
            }
        ),
    ]
}

fn any_id() -> impl Strategy<Value = RequestId> {
    prop_oneof![
        any_text().prop_map(RequestId::Given),
        any_text().prop_map(RequestId::Made),
    ]
}

fn any_client() -> impl Strategy<Value = Client> {
    prop_oneof![
        any_text().prop_map(Client::Proven),
        any_text().prop_map(Client::Claimed),
        Just(Client::Anonymous),
        Just(Client::Local),
    ]
}

fn any_ask() -> impl Strategy<Value = Ask> {
    prop_oneof![
        any_text().prop_map(Ask::Prompt),
        (any_text(), any_text()).prop_map(|(task, input)| Ask::Task { task, input }),
        (any_text(), any_text()).prop_map(|(task, values)| Ask::Values { task, values }),
    ]
}

fn any_digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 16]>().prop_map(Digest)
}

fn any_no() -> impl Strategy<Value = TicketNo> {
    any::<u64>().prop_map(TicketNo)
}

prop_compose! {
    fn any_request()(
        id in any_id(),
        client in any_client(),
        ask in any_ask(),
        classification in prop::sample::select(vec![
            Classification::Public, Classification::Internal, Classification::Restricted,
        ]),
        (risk, max_tokens, deadline_ms) in any::<(Option<u8>, Option<u32>, u64)>(),
        complexity in prop::option::of(0.0f32..=1.0),
        priority in prop::sample::select(vec![Priority::High, Priority::Normal, Priority::Low]),
        schema in prop::option::of(any_text()),
        stream in prop::sample::select(vec![Stream::Yes, Stream::No]),
        detail in prop::sample::select(vec![Detail::Whole, Detail::Tokens]),
        late in prop::sample::select(vec![Late::No, Late::Yes]),
        reply in any_address(),
        content in any_digest(),
    ) -> Request {
        Request {
            id, client, ask, classification, risk, complexity, priority,
            deadline: Duration::from_millis(deadline_ms),
            late, max_tokens, schema, stream, detail, reply, content,
        }
    }
}

prop_compose! {
    fn any_filed()(
        (no, id, content) in (any_no(), any_id(), any_digest()),
        (scope, verdict, rule) in (any_text(), any_text(), any_text()),
        (accepted, settled, steps) in any::<(u64, u64, u64)>(),
        reply in any_bytes(),
    ) -> Filed {
        Filed {
            no, scope, id, content, verdict, rule, steps, reply,
            accepted: Wall(accepted),
            settled: Wall(settled),
        }
    }
}

prop_compose! {
    fn any_letter()(
        no in any_no(),
        step in any::<u64>(),
        topic in any_text(),
        correlation in prop::option::of(any_bytes()),
        user_properties in prop::collection::vec((any_text(), any_text()), 0..3),
        payload in any_bytes(),
    ) -> Letter {
        Letter { no, step, topic, correlation, user_properties, payload }
    }
}

prop_compose! {
    fn any_waiting()(
        (no, accepted) in (any_no(), any::<u64>()),
        request in any_request(),
        topic in prop::option::of(any_text()),
        course in prop::option::of((
            any_text(), prop::collection::vec(any_text(), 0..3),
            any::<bool>(), any::<bool>(), any::<bool>(),
        )),
    ) -> Waiting {
        Waiting {
            no, request, topic,
            accepted: Wall(accepted),
            course: course.map(|(rule, reasons, degraded, owed, told)| Course {
                route: Route { rule, reasons },
                degraded, owed, told,
            }),
        }
    }
}

fn any_source() -> impl Strategy<Value = Source> {
    let confidence = prop::option::of(0.0f32..=1.0);
    prop_oneof![
        Just(Source::Edge),
        Just(Source::Human),
        (any_text(), any_text(), confidence).prop_map(|(upstream, model, confidence)| {
            Source::Cloud(Elsewhere {
                upstream,
                model,
                confidence,
            })
        }),
    ]
}

fn any_why() -> impl Strategy<Value = Why> {
    prop_oneof![
        any_text().prop_map(Why::Rule),
        any_text().prop_map(Why::Failed),
        Just(Why::EdgeShut),
        Just(Why::Verification),
        (0.0f32..=1.0, 0.0f32..=1.0).prop_map(|(confidence, threshold)| Why::Doubt {
            confidence,
            threshold,
        }),
    ]
}

prop_compose! {
    fn any_passed()(
        waiting in any_waiting(),
        why in any_why(),
        source in prop::option::of(any_source()),
        (since, expires) in any::<(u64, u64)>(),
        (text, is_json, is_cut) in (any_text(), any::<bool>(), any::<bool>()),
    ) -> Passed {
        let draft = source.map(|source| Draft {
            completion: Completion {
                text: text.clone(),
                form: if is_json { Form::Json } else { Form::Text },
                finish: if is_cut { Finish::Length } else { Finish::End },
                free: vec![FreeChoice { logprob: -0.5, entropy: 0.5 }],
                ..draft(Source::Edge).completion
            },
            features: is_cut.then(Features::default),
            source,
        });
        Passed { waiting, why, draft, since: Wall(since), expires: Wall(expires) }
    }
}

fn any_step() -> impl Strategy<Value = Step> {
    let what = prop_oneof![
        any_address().prop_map(What::AlsoTo),
        prop::sample::select(vec![
            What::Started,
            What::Requeued(Requeue::Busy),
            What::Requeued(Requeue::Crashed),
            What::Delivered,
            What::Undeliverable,
        ]),
    ];
    (any::<u64>(), what).prop_map(|(at, what)| Step { at: Wall(at), what })
}

proptest! {
    #[test]
    fn any_waiting_request_comes_back(waiting in any_waiting()) {
        let sealed = waiting.seal();
        prop_assert_eq!(Waiting::read(unseal(&sealed).unwrap()), Ok(waiting));
    }

    #[test]
    fn any_request_that_was_passed_on_comes_back(passed in any_passed()) {
        let sealed = passed.seal();
        prop_assert_eq!(Passed::read(unseal(&sealed).unwrap()), Ok(passed));
    }

    #[test]
    fn any_outcome_comes_back(filed in any_filed()) {
        let sealed = filed.seal();
        prop_assert_eq!(Filed::read(unseal(&sealed).unwrap()), Ok(filed));
    }

    #[test]
    fn any_letter_comes_back(letter in any_letter()) {
        let sealed = letter.seal();
        prop_assert_eq!(Letter::read(unseal(&sealed).unwrap()), Ok(letter));
    }

    #[test]
    fn any_step_with_a_record_comes_back(step in any_step()) {
        let sealed = seal_step(&step).unwrap();
        prop_assert_eq!(read_step(unseal(&sealed).unwrap()), Ok(step));
    }

    #[test]
    fn any_bytes_are_read_or_damaged(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = unseal(&bytes);
        let _ = (Waiting::read(&bytes), Passed::read(&bytes), Filed::read(&bytes));
        let _ = (Letter::read(&bytes), read_step(&bytes));
    }

    #[test]
    fn a_body_with_one_byte_changed_is_read_or_damaged(
        passed in any_passed(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let sealed = passed.seal();
        let mut body = unseal(&sealed).unwrap().to_vec();
        let at = at.index(body.len());
        body[at] = byte;
        let _ = (Waiting::read(&body), Passed::read(&body));
        let _ = (Waiting::read(&body[..at]), Passed::read(&body[..at]));
    }
}
