//! Values that only JSON carries, inside ours.
#![cfg(feature = "json")]

use std::collections::BTreeMap;

use mp_core::{Json, Receiver, RecvError, Sender, pipe, process_fn};
use mp_testing::{scenario, watched};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Shape {
    Circle { radius: f64 },
    Polygon(Vec<(i32, i32)>),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Event {
    Begin { at: u64 },
    End,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Request {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
    shape: Shape,
    events: Vec<Event>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

fn request() -> Request {
    Request {
        name: "Grüße\n\"\0".to_owned(),
        comment: None,
        shape: Shape::Polygon(vec![(1, -2)]),
        events: vec![Event::Begin { at: u64::MAX }, Event::End],
        rest: BTreeMap::from([("more".to_owned(), json!([1.5, { "deep": null }]))]),
    }
}

#[process_fn]
fn echo(request: Json<Request>, shape: Json<Shape>) -> (Json<Request>, Json<Shape>) {
    assert_eq!(*request, self::request());
    (request, shape)
}

scenario!(what_the_codec_refuses_travels_as_json, {
    let process = echo::spawn(Json(request()), Json(Shape::Circle { radius: 0.1 })).unwrap();
    let (request, shape) = process.join().unwrap();
    assert_eq!(request.into_inner(), self::request());
    assert_eq!(shape, Json(Shape::Circle { radius: 0.1 }));
});

#[test]
fn without_it_the_same_value_is_refused() {
    watched(|| {
        let (sender, receiver) = pipe::<Request>().unwrap();
        assert!(sender.send(request()).is_err() || receiver.recv().is_err());
    });
}

#[test]
fn what_is_no_json_is_an_error_of_that_message() {
    watched(|| {
        let (sender, receiver) = pipe::<Json<Value>>().unwrap();
        let as_text: Sender<String> = {
            let message = mp_core::raw::Message::encode(&sender).unwrap();
            message.decode().unwrap()
        };
        for text in ["", "{", "1 2", &"[".repeat(10_000)] {
            as_text.send(text.to_owned()).unwrap();
            assert!(matches!(receiver.recv(), Err(RecvError::Decode(_))), "{text:.5}");
        }
        sender.send(Json(json!("good"))).unwrap();
        assert_eq!(*receiver.recv().unwrap(), json!("good"));
    });
}

#[test]
fn handles_inside_travel_too() {
    watched(|| {
        let (sender, receiver) = pipe::<Json<(String, Receiver<u8>)>>().unwrap();
        let (numbers, inner) = pipe().unwrap();
        sender.send(Json(("inner".to_owned(), inner))).unwrap();
        let (name, inner) = receiver.recv().unwrap().into_inner();
        numbers.send(7).unwrap();
        assert_eq!((name.as_str(), inner.recv().unwrap()), ("inner", 7));
    });
}
