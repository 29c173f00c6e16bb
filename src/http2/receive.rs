//! Pure. Frames in: each rule of RFC 9113 that a client can break is checked here.

use super::connection::{Connection, Event, Slot};
use super::error::{ConnectionError, ErrorCode, Flood};
use super::frame::{self, FRAME_HEADER_SIZE, FrameHeader, PREFACE, PayloadError};
use super::settings::Role;
use super::stream::Stream;
use crate::env::Monotonic;
use crate::ids::StreamId;
use crate::limits::http2 as limits;
use bytes::Bytes;

impl Connection {
    pub(super) fn receive_frames(
        &mut self,
        mut bytes: &[u8],
        now: Monotonic,
    ) -> Result<(), ConnectionError> {
        if self.preface < PREFACE.len() {
            bytes = self.receive_preface(bytes)?;
        }
        if !self.partial.is_empty() {
            bytes = self.receive_partial(bytes, now)?;
        }
        while let Some((first, rest)) = bytes.split_first_chunk::<FRAME_HEADER_SIZE>() {
            let header = self.frame_header(first)?;
            let Some((payload, rest)) = rest.split_at_checked(header.size) else {
                break;
            };
            bytes = rest;
            self.receive_frame(header, payload, now)?;
        }
        if !bytes.is_empty() && self.partial.is_empty() {
            self.partial.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn receive_preface<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], ConnectionError> {
        let expected = &PREFACE[self.preface..];
        let size = expected.len().min(bytes.len());
        if bytes[..size] != expected[..size] {
            return Err(ConnectionError::Preface);
        }
        self.preface += size;
        Ok(&bytes[size..])
    }

    /// Completes the partial frame, and gives back what follows it. Empty when it takes all.
    fn receive_partial<'a>(
        &mut self,
        mut bytes: &'a [u8],
        now: Monotonic,
    ) -> Result<&'a [u8], ConnectionError> {
        let mut frame = std::mem::take(&mut self.partial);
        let mut take = |frame: &mut Vec<u8>, size: usize| {
            let count = size.saturating_sub(frame.len()).min(bytes.len());
            let (part, rest) = bytes.split_at(count);
            frame.extend_from_slice(part);
            bytes = rest;
        };
        take(&mut frame, FRAME_HEADER_SIZE);
        if let Some(first) = frame.first_chunk() {
            let header = self.frame_header(first)?;
            take(&mut frame, FRAME_HEADER_SIZE + header.size);
            if frame.len() == FRAME_HEADER_SIZE + header.size {
                self.receive_frame(header, &frame[FRAME_HEADER_SIZE..], now)?;
                frame.clear();
            }
        }
        self.partial = frame;
        Ok(bytes)
    }

    #[inline]
    fn frame_header(
        &self,
        bytes: &[u8; FRAME_HEADER_SIZE],
    ) -> Result<FrameHeader, ConnectionError> {
        let header = FrameHeader::parse(bytes);
        if !self.peer_settings_seen
            && (header.kind != frame::SETTINGS || header.has(frame::FLAG_ACK))
        {
            return Err(ConnectionError::FirstFrame { got: header.kind });
        }
        if header.size > limits::FRAME_BYTES_MAX {
            let max = limits::FRAME_BYTES_MAX;
            return Err(ConnectionError::FrameTooLarge {
                got: header.size,
                max,
            });
        }
        Ok(header)
    }

    #[inline]
    fn receive_frame(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        now: Monotonic,
    ) -> Result<(), ConnectionError> {
        if let Some(open) = &self.open_block
            && (header.kind != frame::CONTINUATION || header.stream != open.stream)
        {
            let stream = open.stream;
            return Err(ConnectionError::ContinuationExpected {
                got: header.kind,
                stream,
            });
        }
        match header.kind {
            frame::DATA => self.receive_data(header, payload, now),
            frame::HEADERS => self.receive_headers(header, payload, now),
            frame::CONTINUATION => self.receive_continuation(header, payload, now),
            frame::WINDOW_UPDATE => self.receive_window_update(header, payload, now),
            frame::RST_STREAM => self.receive_reset(header, payload, now),
            frame::PING => self.receive_ping(header, payload, now),
            frame::SETTINGS => self.receive_settings(header, payload, now),
            frame::GOAWAY => self.receive_goaway(header, payload, now),
            frame::PRIORITY => self.receive_priority(header, payload, now),
            frame::PUSH_PROMISE => Err(ConnectionError::PushPromise),
            _ => self.spend_idle(1, now),
        }
    }

    pub(super) fn spend_idle(&mut self, cost: u32, now: Monotonic) -> Result<(), ConnectionError> {
        if self.idle_frames.spend(cost, now) {
            return Ok(());
        }
        Err(ConnectionError::Flood(Flood::IdleFrames))
    }

    /// Resets a stream that broke a rule, and tells the layer above. It costs as much as a reset by
    /// the peer: else breaking rules would be the cheaper way to make us work for nothing.
    pub(super) fn refuse(
        &mut self,
        slot: Slot,
        code: ErrorCode,
        now: Monotonic,
    ) -> Result<(), ConnectionError> {
        if !self.resets.spend(1, now) {
            return Err(ConnectionError::Flood(Flood::Resets));
        }
        let stream = StreamId(self.streams.at(slot).id);
        self.put_reset(stream.0, code);
        self.remember_ended(stream.0);
        self.remove(slot);
        self.events.push_back(Event::Reset { stream, slot, code });
        Ok(())
    }

    fn receive_data(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        now: Monotonic,
    ) -> Result<(), ConnectionError> {
        let id = header.stream;
        if id == 0 {
            return Err(ConnectionError::StreamZero { kind: header.kind });
        }
        let body = inner(&header, payload)?;
        // The connection's window pays for the whole payload, whatever becomes of the stream.
        let size = payload.len();
        self.receive_window -= size as i64;
        if self.receive_window < 0 {
            let window = self.receive_window + size as i64;
            return Err(ConnectionError::WindowExceeded { got: size, window });
        }
        self.return_to_connection(size as u32);

        let Some(slot) = self.streams.slot(id) else {
            self.check_not_idle(&header)?;
            self.spend_idle(1, now)?;
            if !self.ended.contains(&id) {
                self.put_reset(id, ErrorCode::STREAM_CLOSED);
            }
            return Ok(());
        };
        let end = header.has(frame::FLAG_END_STREAM);
        let window = self.settings.stream_window;
        let stream = self.streams.at_mut(slot);
        if stream.remote_ended {
            return self.refuse(slot, ErrorCode::STREAM_CLOSED, now);
        }
        stream.receive_window -= size as i64;
        if stream.receive_window < 0 {
            stream.receive_window = 0;
            return self.refuse(slot, ErrorCode::FLOW_CONTROL_ERROR, now);
        }
        if stream.content_left != u64::MAX {
            let left = stream.content_left.checked_sub(body.len() as u64);
            let Some(left) = left.filter(|&left| !end || left == 0) else {
                return self.refuse(slot, ErrorCode::PROTOCOL_ERROR, now);
            };
            stream.content_left = left;
        }
        if end {
            stream.remote_ended = true;
        } else {
            stream.unreturned += size as u32;
            if stream.unreturned >= window / 2 && stream.unreturned > 0 {
                let increment = std::mem::take(&mut stream.unreturned);
                stream.receive_window += i64::from(increment);
                self.put_window_update(id, increment);
            }
        }
        if body.is_empty() && !end {
            return self.spend_idle(1, now);
        }
        let bytes = Bytes::copy_from_slice(body);
        self.events.push_back(Event::Data {
            stream: StreamId(id),
            slot,
            bytes,
            end,
        });
        if end && self.role == Role::Client {
            self.remove(slot);
        }
        Ok(())
    }

    #[inline]
    fn return_to_connection(&mut self, size: u32) {
        self.unreturned += size;
        if self.unreturned >= self.settings.connection_window / 2 && self.unreturned > 0 {
            let increment = std::mem::take(&mut self.unreturned);
            self.receive_window += i64::from(increment);
            self.put_window_update(0, increment);
        }
    }

    /// A frame for a stream that is not in the table: fine when it was opened and has ended.
    fn check_not_idle(&self, header: &FrameHeader) -> Result<(), ConnectionError> {
        let got = header.stream;
        if got.is_multiple_of(2) || got > self.last_stream {
            return Err(ConnectionError::StreamIdle {
                kind: header.kind,
                got,
            });
        }
        Ok(())
    }

    fn receive_window_update(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        now: Monotonic,
    ) -> Result<(), ConnectionError> {
        let increment = fixed_number(&header, payload)? & frame::U31_MAX;
        self.spend_idle(1, now)?;
        let max = i64::from(frame::U31_MAX);
        if header.stream == 0 {
            if increment == 0 {
                return Err(ConnectionError::ZeroIncrement);
            }
            let window = self.send_window;
            if window + i64::from(increment) > max {
                return Err(ConnectionError::WindowOverflow { window, increment });
            }
            self.send_window += i64::from(increment);
            return Ok(());
        }
        let Some(slot) = self.streams.slot(header.stream) else {
            return self.check_not_idle(&header);
        };
        let stream = self.streams.at_mut(slot);
        if increment == 0 {
            self.refuse(slot, ErrorCode::PROTOCOL_ERROR, now)
        } else if stream.send_window + i64::from(increment) > max {
            self.refuse(slot, ErrorCode::FLOW_CONTROL_ERROR, now)
        } else {
            stream.send_window += i64::from(increment);
            self.make_ready(slot);
            Ok(())
        }
    }

    fn receive_reset(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        now: Monotonic,
    ) -> Result<(), ConnectionError> {
        let code = ErrorCode(fixed_number(&header, payload)?);
        if header.stream == 0 {
            return Err(ConnectionError::StreamZero { kind: header.kind });
        }
        let Some(slot) = self.streams.slot(header.stream) else {
            self.check_not_idle(&header)?;
            return self.spend_idle(1, now);
        };
        if !self.resets.spend(1, now) {
            return Err(ConnectionError::Flood(Flood::Resets));
        }
        let stream = StreamId(header.stream);
        self.remove(slot);
        self.events.push_back(Event::Reset { stream, slot, code });
        Ok(())
    }

    fn receive_ping(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        now: Monotonic,
    ) -> Result<(), ConnectionError> {
        check_stream_zero(&header)?;
        let got = payload.len();
        let payload: [u8; 8] = payload.try_into().map_err(|_| ConnectionError::FrameSize {
            kind: header.kind,
            got,
            expected: 8,
        })?;
        self.spend_idle(1, now)?;
        if header.has(frame::FLAG_ACK) {
            self.pong(payload);
            return Ok(());
        }
        self.tail = None;
        frame::put_frame(&mut self.out, frame::PING, frame::FLAG_ACK, 0, &payload);
        if self.role == Role::Client || self.keeper.peer_pinged(now, self.streams.count()) {
            return Ok(());
        }
        Err(ConnectionError::Flood(Flood::Pings))
    }

    fn receive_settings(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        now: Monotonic,
    ) -> Result<(), ConnectionError> {
        check_stream_zero(&header)?;
        if header.has(frame::FLAG_ACK) {
            if !payload.is_empty() {
                let got = payload.len();
                return Err(ConnectionError::FrameSize {
                    kind: header.kind,
                    got,
                    expected: 0,
                });
            }
            self.settings_open = self
                .settings_open
                .checked_sub(1)
                .ok_or(ConnectionError::SettingsAck)?;
            return Ok(());
        }
        let before = self.peer.initial_window;
        self.peer.apply(payload)?;
        let mut cost = 1;
        let delta = i64::from(self.peer.initial_window) - i64::from(before);
        if delta != 0 {
            cost += self.streams.count() as u32 / limits::SETTINGS_STREAMS_PER_COST;
            self.move_send_windows(delta)?;
        }
        self.spend_idle(cost, now)?;
        self.peer_settings_seen = true;
        self.tail = None;
        frame::put_frame(&mut self.out, frame::SETTINGS, frame::FLAG_ACK, 0, &[]);
        Ok(())
    }

    fn receive_goaway(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        now: Monotonic,
    ) -> Result<(), ConnectionError> {
        check_stream_zero(&header)?;
        if payload.len() < 8 {
            let got = payload.len();
            return Err(ConnectionError::FrameSize {
                kind: header.kind,
                got,
                expected: 8,
            });
        }
        self.peer_goaway = true;
        if self.role == Role::Client {
            let last = frame::number(&payload[..4]).unwrap_or(0) & frame::U31_MAX;
            let code = ErrorCode(frame::number(&payload[4..8]).unwrap_or(0));
            let debug = Bytes::copy_from_slice(&payload[8..]);
            self.end_streams_above(last);
            self.events.push_back(Event::GoAway {
                last: StreamId(last),
                code,
                debug,
            });
        }
        self.spend_idle(1, now)
    }

    /// The server will not look at these.
    fn end_streams_above(&mut self, last: u32) {
        let above = |(_, stream): &(Slot, &mut Stream)| stream.id > last;
        let streams = self.streams.iter_mut().filter(above);
        let mut lost: Vec<_> = streams.map(|(slot, stream)| (stream.id, slot)).collect();
        lost.sort_unstable_by_key(|(id, _)| *id);
        for (id, slot) in lost {
            self.remove(slot);
            let code = ErrorCode::REFUSED_STREAM;
            self.events.push_back(Event::Reset {
                stream: StreamId(id),
                slot,
                code,
            });
        }
    }

    /// Priorities are ignored; a frame of the wrong size still is an error.
    fn receive_priority(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        now: Monotonic,
    ) -> Result<(), ConnectionError> {
        if header.stream == 0 {
            return Err(ConnectionError::StreamZero { kind: header.kind });
        }
        if payload.len() != 5 {
            match self.streams.slot(header.stream) {
                Some(slot) => self.refuse(slot, ErrorCode::FRAME_SIZE_ERROR, now)?,
                None => {
                    let got = payload.len();
                    return Err(ConnectionError::FrameSize {
                        kind: header.kind,
                        got,
                        expected: 5,
                    });
                }
            }
        }
        self.spend_idle(1, now)
    }
}

fn check_stream_zero(header: &FrameHeader) -> Result<(), ConnectionError> {
    if header.stream != 0 {
        return Err(ConnectionError::StreamNotZero {
            kind: header.kind,
            got: header.stream,
        });
    }
    Ok(())
}

fn fixed_number(header: &FrameHeader, payload: &[u8]) -> Result<u32, ConnectionError> {
    let got = payload.len();
    frame::number(payload).ok_or(ConnectionError::FrameSize {
        kind: header.kind,
        got,
        expected: 4,
    })
}

#[inline]
pub(super) fn inner<'a>(
    header: &FrameHeader,
    payload: &'a [u8],
) -> Result<&'a [u8], ConnectionError> {
    if header.flags & (frame::FLAG_PADDED | frame::FLAG_PRIORITY) == 0 {
        return Ok(payload);
    }
    frame::inner(header, payload).map_err(|error| match error {
        PayloadError::TooShort => ConnectionError::FrameSize {
            kind: header.kind,
            got: payload.len(),
            expected: if header.has(frame::FLAG_PRIORITY) {
                5
            } else {
                1
            },
        },
        PayloadError::Padding { got, size } => ConnectionError::Padding { got, size },
    })
}
