//! Commands and events in a few words, for the log of a life.

use lineside::broker::{Command as ToBroker, Event as FromBroker};
use lineside::dispatch::Answer;
use lineside::engine;
use lineside::spool::Op;
use lineside::spool::shell::{Command as ToSpool, Event as FromSpool};

pub(crate) fn brief_op(op: &Op) -> String {
    match op {
        Op::Append { tree, seq, .. } => format!("+{}:{seq:x}", tree.word()),
        Op::Ack { tree, seq } => format!("-{}:{seq:x}", tree.word()),
        Op::Extend { tree, seq, .. } => format!("~{}:{seq:x}", tree.word()),
        Op::Release { tree, seq } => format!("release {}:{seq:x}", tree.word()),
    }
}

pub(crate) fn brief_spool(command: &ToSpool) -> String {
    match command {
        ToSpool::Commit { token, ops } => {
            let ops: Vec<_> = ops.iter().take(8).map(brief_op).collect();
            format!("commit {} {}", token.0, ops.join(" "))
        }
        ToSpool::Lease {
            token, tree, max, ..
        } => format!("lease {} {} x{max}", token.0, tree.word()),
        ToSpool::Look {
            token, tree, from, ..
        } => format!("look {} {}:{from:x}", token.0, tree.word()),
    }
}

pub(crate) fn brief_spooled(event: &FromSpool) -> String {
    match event {
        FromSpool::Committed { token, .. } => format!("committed {}", token.0),
        FromSpool::Refused { token, tree } => {
            format!("refused {}: {} is full", token.0, tree.word())
        }
        FromSpool::Failed { token } => format!("failed {}", token.0),
        FromSpool::Records { token, records } => {
            let seqs: Vec<_> = records.iter().map(|(seq, _)| format!("{seq:x}")).collect();
            format!("records {} [{}]", token.0, seqs.join(" "))
        }
        FromSpool::Restored { .. } => "restored".into(),
    }
}

pub(crate) fn brief_broker(command: &ToBroker) -> String {
    match command {
        ToBroker::Publish(parcel) => {
            let text = String::from_utf8_lossy(&parcel.payload);
            let text: String = text.chars().take(70).collect();
            format!("publish {:x} {} {text}", parcel.id.0, parcel.topic)
        }
        ToBroker::Acknowledge(token) => {
            format!("acknowledge {}/{}", token.generation, token.packet)
        }
        ToBroker::Close => "close".into(),
    }
}

pub(crate) fn brief_brokered(event: &FromBroker) -> String {
    match event {
        FromBroker::Message(message) => {
            let text = String::from_utf8_lossy(&message.payload);
            let text: String = text.chars().take(50).collect();
            let token = message.ack.map(|token| (token.generation, token.packet));
            format!(
                "message {token:?} redelivered {} {text}",
                message.redelivered
            )
        }
        FromBroker::Up(session) => format!("up, {session:?}"),
        FromBroker::Down { .. } => "down".into(),
        FromBroker::Deaf { filter, .. } => format!("deaf to {filter}"),
        FromBroker::Delivered(parcel) => format!("delivered {:x}", parcel.0),
        FromBroker::Undeliverable { parcel, .. } => format!("undeliverable {:x}", parcel.0),
    }
}

pub(crate) fn brief_engine(command: &engine::Command) -> String {
    match command {
        engine::Command::Start(job) => {
            format!("start {} ({})", job.ticket.0, job.request.id.as_str())
        }
        engine::Command::Cancel(no) => format!("cancel {}", no.0),
    }
}

pub(crate) fn brief_answer(answer: &Answer) -> String {
    match answer {
        Answer::Reply(json) => String::from_utf8_lossy(json).chars().take(80).collect(),
        Answer::Status(_) => "status".into(),
        Answer::Learned(_) => "what was learnt".into(),
        Answer::Latest(latest) => format!("the latest {}", latest.requests.len()),
        Answer::Maintenance(it) => format!("maintenance is on: {}", it.on),
        Answer::Review(told) => format!("review: {told:?}").chars().take(80).collect(),
        Answer::Trace(lines) => format!("trace of {}", lines.len()),
    }
}
