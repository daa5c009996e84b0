use super::*;

/// Gives its frames one by one; `Pending` before each where `slow`.
#[derive(Debug)]
struct Sender {
    frames: VecDeque<Frame>,
    asked: usize,
}

impl Sender {
    fn of(frames: impl IntoIterator<Item = Frame>) -> Self {
        Self {
            frames: frames.into_iter().collect(),
            asked: 0,
        }
    }
}

impl Receive for Sender {
    fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame, StreamError>>> {
        self.asked += 1;
        Poll::Ready(self.frames.pop_front().map(Ok))
    }

    fn is_end(&self) -> bool {
        self.frames.is_empty()
    }
}

/// Gives every byte as a frame of its own, and one more at the end.
#[derive(Debug, Default)]
struct Bytewise(VecDeque<u8>, Option<Frame>);

impl Stage for Bytewise {
    fn take(&mut self, frame: Option<Frame>) {
        assert!(
            self.0.is_empty(),
            "a stage takes only when it has nothing to give"
        );
        match frame {
            Some(Frame::Data(data)) => self.0.extend(data),
            other => {
                self.0.push_back(b'.');
                self.1 = other;
            }
        }
    }

    fn poll_give(&mut self, _: &mut Context<'_>) -> Poll<Result<Given, &'static str>> {
        if let Some(byte) = self.0.pop_front() {
            if byte == b'!' {
                return Poll::Ready(Err("not understood"));
            }
            return Poll::Ready(Ok(Given::Frame(Frame::Data(Bytes::from(vec![byte])))));
        }
        Poll::Ready(Ok(self.1.take().map_or(Given::Nothing, Given::Frame)))
    }
}

fn data(text: &'static str) -> Frame {
    Frame::Data(Bytes::from_static(text.as_bytes()))
}

fn text(frame: &Frame) -> String {
    match frame {
        Frame::Data(data) => String::from_utf8_lossy(data).into_owned(),
        Frame::Trailers(fields) => format!("{} trailers", fields.len()),
    }
}

fn next(stages: &mut Stages, sender: &mut Sender) -> Option<Result<String, StreamError>> {
    let mut cx = Context::from_waker(Waker::noop());
    match stages.poll_frame(sender, &mut cx) {
        Poll::Ready(next) => next.map(|frame| frame.map(|frame| text(&frame))),
        Poll::Pending => panic!("pending"),
    }
}

#[test]
fn a_sender_is_asked_only_when_the_stages_have_nothing_left() {
    let mut stages = Stages::default();
    stages.push(Box::<Bytewise>::default());
    stages.push(Box::<Bytewise>::default());
    let mut sender = Sender::of([data("ab"), data("c")]);
    assert_eq!(next(&mut stages, &mut sender), Some(Ok("a".into())));
    assert_eq!(sender.asked, 1);
    assert_eq!(next(&mut stages, &mut sender), Some(Ok("b".into())));
    assert_eq!(sender.asked, 1, "the second byte was there already");
    let rest: Vec<_> = std::iter::from_fn(|| next(&mut stages, &mut sender)).collect();
    let rest: Vec<_> = rest.into_iter().map(Result::unwrap).collect();
    assert_eq!(rest, ["c", ".", "."], "each stage adds its end");
    assert_eq!(stages.taken(), 3);
    assert_eq!(next(&mut stages, &mut sender), None);
}

#[test]
fn trailers_pass_in_their_place() {
    let mut stages = Stages::default();
    stages.push(Box::<Bytewise>::default());
    let mut fields = HeaderMap::new();
    fields.insert("x-a", http::HeaderValue::from_static("1"));
    let mut sender = Sender::of([data("a"), Frame::Trailers(fields)]);
    let all: Vec<_> = std::iter::from_fn(|| next(&mut stages, &mut sender)).collect();
    let all: Vec<_> = all.into_iter().map(Result::unwrap).collect();
    assert_eq!(all, ["a", ".", "1 trailers"]);
}

#[test]
fn a_body_that_is_not_understood_ends_with_its_reason() {
    let mut stages = Stages::default();
    stages.push(Box::<Bytewise>::default());
    let mut sender = Sender::of([data("a!b")]);
    assert_eq!(next(&mut stages, &mut sender), Some(Ok("a".into())));
    assert_eq!(
        next(&mut stages, &mut sender),
        Some(Err(StreamError::Protocol("not understood")))
    );
}

#[test]
fn a_whole_body_passes_at_once_and_a_held_one_is_its_end() {
    let mut stages = Stages::default();
    stages.push(Box::<Bytewise>::default());
    let (out, trailers) = stages.pass(Bytes::from_static(b"xy")).unwrap();
    assert_eq!((&*out, trailers), (&b"xy."[..], None));

    let mut stages = Stages::default();
    stages.hold([data("held")]);
    let mut sender = Sender::of([data("never asked for")]);
    assert!(!stages.is_end());
    assert_eq!(next(&mut stages, &mut sender), Some(Ok("held".into())));
    assert!(stages.is_end());
    assert_eq!((next(&mut stages, &mut sender), sender.asked), (None, 0));
}

#[test]
fn what_is_collected_stays_within_its_bound() {
    let mut cx = Context::from_waker(Waker::noop());
    let mut fits = Collected::within(3);
    let whole = fits.poll(&mut Sender::of([data("ab"), data("c")]), &mut cx);
    assert_eq!((whole, fits.size()), (Poll::Ready(Ok(true)), 3));
    assert_eq!(fits.into_frames().len(), 2);
    let mut above = Collected::within(3);
    let whole = above.poll(&mut Sender::of([data("ab"), data("cd"), data("e")]), &mut cx);
    assert_eq!(whole, Poll::Ready(Ok(false)));
    assert_eq!(above.into_frames().len(), 1);
}
