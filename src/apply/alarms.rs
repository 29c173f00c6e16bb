//! Pure. Which member raised which alarm.

use super::Fault;
use crate::backend::schema;
use crate::codec::put_varint_field;
use crate::ids::MemberId;
use crate::mvcc::{Store, View};
use crate::pb;
use prost::Message;
use std::collections::BTreeSet;

/// What is wrong. The numbers are etcd's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Alarm {
    NoSpace = 1,
    Corrupt = 2,
}

impl Alarm {
    /// `None` for NONE and for numbers that etcd does not know.
    pub fn from_number(number: i32) -> Option<Alarm> {
        match number {
            1 => Some(Alarm::NoSpace),
            2 => Some(Alarm::Corrupt),
            _ => None,
        }
    }

    /// As etcd prints it in `Status.errors` and `alarm list`.
    pub fn name(self) -> &'static str {
        match self {
            Alarm::NoSpace => "NOSPACE",
            Alarm::Corrupt => "CORRUPT",
        }
    }
}

/// A raised alarm.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AlarmMember {
    pub alarm: Alarm,
    pub member: MemberId,
}

impl AlarmMember {
    /// The key in the alarm bucket: the `AlarmMember` message, as in etcd. The value is empty.
    fn key(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(13);
        put_varint_field(&mut out, 1, self.member.0);
        put_varint_field(&mut out, 2, self.alarm as u64);
        out
    }

    pub fn message(&self) -> pb::etcdserverpb::AlarmMember {
        pb::etcdserverpb::AlarmMember {
            member_id: self.member.0,
            alarm: self.alarm as i32,
        }
    }
}

/// The raised alarms of a group, in the order of their kind and member.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Alarms {
    raised: BTreeSet<AlarmMember>,
}

impl Alarms {
    pub(super) fn open(view: &View) -> Result<Alarms, Fault> {
        let mut raised = BTreeSet::new();
        let mut bad = None;
        let mut from = Some(Vec::new());
        while let Some(start) = from {
            from = view.small_scan(schema::ALARM, &start, SLICE_ENTRIES, &mut |key, _| {
                let message = pb::etcdserverpb::AlarmMember::decode(key).ok();
                match message.and_then(|m| Some((m.member_id, Alarm::from_number(m.alarm)?))) {
                    Some((member, alarm)) => {
                        raised.insert(AlarmMember {
                            alarm,
                            member: MemberId(member),
                        });
                    }
                    None => bad = Some(key.to_vec()),
                }
                true
            })?;
        }
        match bad {
            Some(key) => Err(Fault::Small {
                bucket: schema::ALARM,
                key,
            }),
            None => Ok(Alarms { raised }),
        }
    }

    pub fn is_raised(&self, alarm: Alarm) -> bool {
        self.raised.iter().any(|raised| raised.alarm == alarm)
    }

    /// All alarms, or those of one kind.
    pub fn list(&self, only: Option<Alarm>) -> Vec<AlarmMember> {
        let wanted = |raised: &&AlarmMember| only.is_none_or(|alarm| raised.alarm == alarm);
        self.raised.iter().filter(wanted).copied().collect()
    }

    pub fn is_empty(&self) -> bool {
        self.raised.is_empty()
    }

    pub(super) fn raise(&mut self, alarm: AlarmMember, store: &mut Store) {
        if self.raised.insert(alarm) {
            store.put_small(schema::ALARM, &alarm.key(), b"");
        }
    }

    /// Returns whether it was raised.
    pub(super) fn clear(&mut self, alarm: AlarmMember, store: &mut Store) -> bool {
        let was_raised = self.raised.remove(&alarm);
        if was_raised {
            store.delete_small(schema::ALARM, &alarm.key());
        }
        was_raised
    }
}

/// Entries of a small bucket that are read at once.
pub(super) const SLICE_ENTRIES: usize = 1000;
