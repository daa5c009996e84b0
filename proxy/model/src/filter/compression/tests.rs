use super::*;

fn direction() -> Direction {
    Direction {
        enabled: true,
        min_length: 30,
        types: ContentTypes::Default,
        stat: "s".into(),
    }
}

fn offer(library: Library, accepts: Option<&str>, change: impl FnOnce(&mut Compressor)) -> Offer {
    let mut compressor = Compressor {
        library,
        choose_first: false,
        request: direction(),
        stat: "s".into(),
        response: direction(),
        disable_on_etag: false,
        weaken_etag: false,
        remove_accept_encoding: false,
        uncompressible: Vec::new(),
        tells_status: false,
    };
    change(&mut compressor);
    Offer {
        library: compressor.library,
        compressor: Arc::new(compressor),
        enabled: true,
        accepts: accepts.map(|accepts| HeaderValue::from_str(accepts).unwrap()),
    }
}

fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let fields = fields
        .iter()
        .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
    fields.collect()
}

const GZIP: Library = Library::Gzip(6);
const BROTLI: Library = Library::Brotli(3, 18);
const ZSTD: Library = Library::Zstd(3, false);

#[test]
fn the_client_chooses_by_quality_then_by_order() {
    let plain = |library| offer(library, None, |_| {});
    let first = |library| offer(library, None, |compressor| compressor.choose_first = true);
    let offers = [plain(GZIP), plain(BROTLI), plain(ZSTD)];
    let chosen = |accepts| choose(accepts, offers.iter());
    assert_eq!(chosen("br;q=0.5, gzip;q=0.4"), Choice::Coding(Coding::Brotli));
    assert_eq!(chosen("zstd, br, gzip"), Choice::Coding(Coding::Zstd));
    assert_eq!(chosen("identity, gzip"), Choice::Identity);
    assert_eq!(chosen("*"), Choice::Any(Some(Coding::Gzip)));
    assert_eq!(chosen("deflate"), Choice::NotValid);
    assert_eq!(chosen("gzip;q=0"), Choice::NotValid);
    assert_eq!(chosen("gzip;q=x, zstd;q=0.1"), Choice::Coding(Coding::Zstd));
    assert_eq!(chosen(""), Choice::NotValid);
    assert_eq!(chosen("gzip;q=0, *"), Choice::Any(Some(Coding::Brotli)));
    assert_eq!(chosen("gzip;q=0, br;q=0, zstd;q=0, identity"), Choice::NotValid);
    let preferred = [plain(GZIP), first(BROTLI), plain(ZSTD)];
    let of_preferred = |accepts| choose(accepts, preferred.iter());
    assert_eq!(of_preferred("zstd, gzip, br"), Choice::Coding(Coding::Brotli));
    assert_eq!(of_preferred("zstd, gzip, br;q=0.9"), Choice::Coding(Coding::Zstd));
}

#[test]
fn a_response_is_compressed_if_everything_agrees() {
    let verdict = |offer: &Offer, fields: &[(&'static str, &'static str)]| {
        let mut headers = headers(fields);
        let (verdict, _) = offer.respond(StatusCode::OK, &mut headers, false, std::iter::once(offer));
        (verdict, headers)
    };
    let gzip = offer(GZIP, Some("gzip"), |_| {});
    let (compressed, after) = verdict(&gzip, &[("content-length", "30"), ("etag", "\"abc\"")]);
    assert_eq!(compressed, Compression::Compressed);
    assert_eq!(
        (
            after.get("content-encoding").unwrap(),
            after.get("vary").unwrap(),
            after.get("etag")
        ),
        (
            &HeaderValue::from_static("gzip"),
            &HeaderValue::from_static("Accept-Encoding"),
            None
        )
    );
    assert_eq!(
        verdict(&gzip, &[("content-length", "29")]).0,
        Compression::TooSmall
    );
    assert_eq!(
        verdict(&gzip, &[("content-type", "image/png")]).0,
        Compression::ContentType
    );
    assert_eq!(
        verdict(&gzip, &[("content-type", "Text/HTML; charset=x")]).0,
        Compression::Compressed
    );
    assert_eq!(verdict(&gzip, &[("content-encoding", "br")]).0, Compression::No);
    assert_eq!(
        verdict(&gzip, &[("cache-control", "max-age=1, no-transform")]).0,
        Compression::No
    );
    let nobody = offer(GZIP, None, |_| {});
    let (refused, after) = verdict(&nobody, &[("vary", "cookie")]);
    assert_eq!(refused, Compression::NotAccepted);
    assert_eq!(after.get("vary").unwrap(), "cookie, Accept-Encoding");
}

#[test]
fn an_etag_is_removed_or_weakened_or_respected() {
    let etag = |change: fn(&mut Compressor), value: &'static str| {
        let offer = offer(GZIP, Some("gzip"), change);
        let mut headers = headers(&[("etag", value)]);
        let (verdict, _) = offer.respond(StatusCode::OK, &mut headers, false, std::iter::once(&offer));
        let etag = headers.get(ETAG).map(|etag| etag.to_str().unwrap().to_owned());
        (verdict, etag)
    };
    assert_eq!(etag(|_| {}, "\"a\""), (Compression::Compressed, None));
    assert_eq!(
        etag(|_| {}, "W/\"a\""),
        (Compression::Compressed, Some("W/\"a\"".into()))
    );
    assert_eq!(
        etag(|compressor| compressor.weaken_etag = true, "\"a\""),
        (Compression::Compressed, Some("W/\"a\"".into()))
    );
    assert_eq!(
        etag(|compressor| compressor.disable_on_etag = true, "\"a\""),
        (Compression::Etag, Some("\"a\"".into()))
    );
}

#[test]
fn a_request_is_compressed_where_it_is_asked_for() {
    let offer = offer(GZIP, None, |_| {});
    let verdict = |fields| offer.compressor.compresses_request(&headers(fields));
    assert_eq!(verdict(&[("content-length", "30")]), Compression::Compressed);
    assert_eq!(verdict(&[("content-length", "5")]), Compression::TooSmall);
    assert_eq!(verdict(&[("content-encoding", "gzip")]), Compression::No);
}

#[test]
fn what_is_decompressed_loses_its_name() {
    let expansion = Expansion {
        enabled: true,
        ignore_no_transform: false,
        stat: "s".into(),
    };
    let decompressor = Decompressor {
        coding: Coding::Gzip,
        max_ratio: 100,
        request: expansion.clone(),
        response: expansion,
        advertise: true,
    };
    let applied = |fields| {
        let mut headers = headers(fields);
        let applies = decompressor.applies(&decompressor.request, &mut headers);
        let left = headers
            .get(CONTENT_ENCODING)
            .map(|left| left.to_str().unwrap().to_owned());
        (applies, left)
    };
    assert_eq!(applied(&[("content-encoding", "GZIP")]), (true, None));
    assert_eq!(
        applied(&[("content-encoding", "gzip, br")]),
        (true, Some("br".into()))
    );
    assert_eq!(applied(&[("content-encoding", "br")]), (false, Some("br".into())));
    assert_eq!(
        applied(&[("content-encoding", "gzip"), ("cache-control", "no-transform")]),
        (false, Some("gzip".into()))
    );
    let advertised = |fields| {
        let mut headers = headers(fields);
        decompressor.advertise(&mut headers);
        headers.get(ACCEPT_ENCODING).unwrap().to_str().unwrap().to_owned()
    };
    assert_eq!(advertised(&[]), "gzip");
    assert_eq!(
        advertised(&[("accept-encoding", "br;q=1, gzip;q=0.3")]),
        "br;q=1,gzip"
    );
}
