//! Objects over the wire: what goes in comes out, whatever the size, the range
//! and the sites that are missing.

use bytes::Bytes;
use coffer_client::GetError;
use coffer_proto::v1::put_object_request::Part;
use coffer_proto::v1::{PutEnd, PutHeader, PutObjectRequest, PutSmallRequest};
use coffer_tests::{Deployment, Wire, bucket_name, object_key, pattern};
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_every_awkward_size_read_back_whole_and_in_ranges() {
    let deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant("acme").await;
    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    let stripe = 4 << 20;
    let sizes = [0, 1, 16383, 16384, 16385, 65535, 65536, 65537, stripe - 4096, stripe, 2 * stripe + 17];
    for size in sizes {
        let body = pattern(size as u64, size);
        tenant.put(&bucket, "object", body.clone()).await;
        assert!(tenant.get(&bucket, "object").await.unwrap() == body, "{size} bytes");
        let ends = [0, 1, 16384, size / 2, size.saturating_sub(1), size];
        for start in ends.into_iter().filter(|at| *at <= size) {
            for end in ends.into_iter().filter(|at| *at <= size && *at >= start) {
                let range = start as u64..end as u64;
                let (_, part) = tenant.client.get(&bucket, &object_key("object"), Some(range)).await.unwrap();
                let part = part.collect(size as u64 + 1).await.unwrap();
                assert!(part == body.slice(start..end), "{size} bytes, {start}..{end}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_two_sites_may_be_dead_while_reading() {
    let deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant("acme").await;
    let operator = deployment.operator().await;
    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    let (large, small) = (pattern(1, 9 << 20), pattern(2, 1000));
    tenant.put(&bucket, "large", large.clone()).await;
    tenant.put(&bucket, "small", small.clone()).await;
    let names = ["fra1", "par1", "ams1", "zrh1", "sto1", "mad1"];
    for (i, first) in names.iter().enumerate() {
        for second in &names[i + 1..] {
            operator.set_site_alive(first, false).await.unwrap();
            operator.set_site_alive(second, false).await.unwrap();
            assert!(tenant.get(&bucket, "large").await.unwrap() == large, "{first} and {second} dead");
            assert!(tenant.get(&bucket, "small").await.unwrap() == small, "{first} and {second} dead");
            operator.set_site_alive(first, true).await.unwrap();
            operator.set_site_alive(second, true).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_object_is_gone_and_a_newer_put_shows_again_also_after_a_rebuild() {
    let mut deployment = Deployment::six_sites().await;
    let mut tenant = deployment.tenant("acme").await;
    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    for (key, body) in [("kept", pattern(1, 100_000)), ("gone", pattern(2, 100)), ("again", pattern(3, 100))]
    {
        tenant.put(&bucket, key, body).await;
    }
    tenant.client.delete(&bucket, &object_key("gone")).await.unwrap();
    tenant.client.delete(&bucket, &object_key("again")).await.unwrap();
    tenant.put(&bucket, "again", pattern(4, 200_000)).await;
    let kit = deployment.service().kit().await.unwrap();
    deployment.stop().await;
    deployment.lose_all_but_sites();
    for lost in ["zrh1", "sto1"] {
        std::fs::remove_dir_all(deployment.site_dir(lost)).unwrap();
    }
    deployment.recover(&kit).await;
    deployment.reconnect(&mut tenant).await;
    assert!(tenant.get(&bucket, "kept").await.unwrap() == pattern(1, 100_000));
    assert!(tenant.get(&bucket, "again").await.unwrap() == pattern(4, 200_000));
    assert!(matches!(tenant.get(&bucket, "gone").await, Err(GetError::Call(_))));
    let keys: Vec<_> =
        tenant.client.list(&bucket, b"").await.unwrap().into_iter().map(|o| o.key.to_string()).collect();
    assert_eq!(keys, ["again", "kept"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_without_its_end_or_with_a_wrong_one_is_no_object() {
    let deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant("acme").await;
    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    let header = || PutHeader {
        tenant: Bytes::new(),
        bucket: bucket.to_string(),
        key: Bytes::from_static(b"object"),
        metadata: Default::default(),
        repeats_blake3: Bytes::new(),
    };
    for (size, end) in [(10, None), (10, Some(9)), (200_000, None), (200_000, Some(200_001)), (0, None)] {
        let mut parts = vec![Part::Header(header()), Part::Data(pattern(1, size))];
        parts.extend(end.map(|size| Part::End(PutEnd { size })));
        let mut wire = Wire::connect(deployment.endpoint(), &tenant.credentials).await.unwrap();
        let stream = tokio_stream::iter(parts.into_iter().map(|part| PutObjectRequest { part: Some(part) }));
        let refused = wire.objects.put_object(stream).await.unwrap_err();
        assert_eq!(refused.code(), Code::Cancelled, "{size} bytes, end {end:?}");
        assert!(tenant.get(&bucket, "object").await.is_err(), "{size} bytes, end {end:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_in_one_message_is_refused_where_it_is_too_large_has_no_header_or_another_s_tenant() {
    let deployment = Deployment::six_sites().await;
    let (tenant, other) = (deployment.tenant("acme").await, deployment.tenant("other").await);
    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    let header = |owner: &[u8]| {
        Some(PutHeader {
            tenant: Bytes::copy_from_slice(owner),
            bucket: bucket.to_string(),
            key: Bytes::from_static(b"object"),
            metadata: Default::default(),
            repeats_blake3: Bytes::new(),
        })
    };
    let limit = coffer_proto::SMALL_BYTES_MAX;
    let mut wire = Wire::connect(deployment.endpoint(), &tenant.credentials).await.unwrap();
    for (header, size, code) in [
        (header(b""), limit + 1, Code::InvalidArgument),
        (None, 10, Code::InvalidArgument),
        (header(other.tenant.as_bytes()), 10, Code::PermissionDenied),
    ] {
        let request = PutSmallRequest { header, data: pattern(1, size) };
        let refused = wire.objects.put_small(request).await.unwrap_err();
        assert_eq!(refused.code(), code, "{size} bytes");
        assert!(tenant.get(&bucket, "object").await.is_err(), "{size} bytes");
    }
    let request = PutSmallRequest { header: header(b""), data: pattern(1, limit) };
    wire.objects.put_small(request).await.unwrap();
    assert!(tenant.get(&bucket, "object").await.unwrap() == pattern(1, limit));
}
