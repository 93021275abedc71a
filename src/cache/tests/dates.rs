//! Dates, valid and not.

use std::time::{Duration, UNIX_EPOCH};

use super::super::date::parse;

#[test]
fn the_three_forms_are_read_in_any_case() {
    for (date, seconds) in [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
        ("SUN, 06 NOV 1994 08:49:37 gMT", 784_111_777),
        (" Sun, 06 Nov 1994 08:49:37 GMT\t", 784_111_777),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 784_111_777),
        ("sunday, 06-nov-94 08:49:37 gmt", 784_111_777),
        ("Sun Nov  6 08:49:37 1994", 784_111_777),
        ("Thu, 18 Aug 2050 02:01:18 GMT", 2_544_400_878),
        ("Thursday, 18-Aug-50 02:01:18 GMT", 2_544_400_878),
        ("Thu Aug 18 02:01:18 2050", 2_544_400_878),
        // A day of the week that does not fit.
        ("Mon Aug 18 02:01:18 2050", 2_544_400_878),
        ("Tue, 19 Jan 2038 14:14:08 GMT", 2_147_523_248),
        ("Sun, 21 Nov 2286 04:46:39 GMT", 10_000_039_599),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Wed, 31 Dec 1969 23:59:59 GMT", 0),
        ("Sat, 01 Jan 0000 00:00:00 GMT", 0),
        ("Thu, 29 Feb 2024 00:00:00 GMT", 1_709_164_800),
        ("Fri, 31 Dec 2016 23:59:60 GMT", 1_483_228_800),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 253_402_300_799),
    ] {
        assert_eq!(parse(date.as_bytes()), Some(seconds), "{date}");
    }
}

#[test]
fn what_is_no_date_is_not_read() {
    for date in [
        "",
        "0",
        "-1",
        "foo",
        "1994-11-06T08:49:37Z",
        "Thu, 18 Aug 2050 02:01:18 UTC",
        "Thu, 18 Aug 2050 02:01:18 AEST",
        "Thu, 18 Aug 2050 02:01:18 +0000",
        "Thu, 18 Aug 2050 02:01:18",
        "Thu, 18 Aug 50 02:01:18 GMT",
        "Thu 18 Aug 2050 02:01:18 GMT",
        "Thu, 18  Aug  2050 02:01:18 GMT",
        "Thu, 18-Aug-2050 02:01:18 GMT",
        "Thu, 18 Aug 2050 02.01.18 GMT",
        "Thu, 18 Aug 2050 2:01:18 GMT",
        "Thu, 18 Aug 2050 02:01:18 GMT, Thu, 18 Aug 2050 02:01:18 GMT",
        "Thu, 8 Aug 2050 02:01:18 GMT",
        "Thu, 00 Aug 2050 02:01:18 GMT",
        "Thu, 32 Aug 2050 02:01:18 GMT",
        "Thu, 29 Feb 2100 02:01:18 GMT",
        "Thu, 29 Feb 2023 02:01:18 GMT",
        "Thu, 18 Aug 2050 24:00:00 GMT",
        "Thu, 18 Aug 2050 02:60:18 GMT",
        "Thu, 18 Aug 2050 02:01:61 GMT",
        "Xxx, 18 Aug 2050 02:01:18 GMT",
        "Thu, 18 Xxx 2050 02:01:18 GMT",
        "Thu, +8 Aug 2050 02:01:18 GMT",
        "Thu Aug 8 02:01:18 2050",
        "Thu Aug  18 02:01:18 2050",
        "Thu, 18-Aug-50 02:01:18 GMT",
        "\u{661}\u{662}, 18 Aug 2050 02:01:18 GMT",
    ] {
        assert_eq!(parse(date.as_bytes()), None, "{date}");
    }
}

#[test]
fn every_day_is_read_as_another_library_writes_it() {
    for day in 0..150_000_u64 {
        let seconds = day * 86_400 + day % 86_400;
        let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(parse(date.as_bytes()), Some(seconds), "{date}");
    }
}
