// What a load did from one moment to the next, and when regions were divided meanwhile.

import UkehiBase
import UkehiEnvironment
import UkehiNode
import UkehiPOSIX

/// What one stretch of a load came to.
struct TimelineSample: Equatable, Sendable {
    /// Its end, in seconds from the beginning of what is measured.
    var seconds: Double
    var operationsPerSecond: Double
    /// Of all operations that were answered in it, in microseconds; zero if none was.
    var p50 = 0.0
    var p99 = 0.0

    var json: JSONValue {
        .object([
            ("time_s", .number(seconds)),
            ("operations_per_second", .number(operationsPerSecond)),
            ("p50_us", .number(p50)), ("p99_us", .number(p99)),
        ])
    }
}

/// A division of a region while the load ran.
struct SplitEvent: Equatable, Sendable {
    /// When it was applied, in seconds from the beginning of what is measured.
    var seconds: Double
    var region: UInt64
    var children: [UInt64]
    var reason: SplitReason
    /// From the decision until all parts serve, in milliseconds; nil: not known.
    var serveMilliseconds: Double?
    /// The part of it in which no write of a new range was acknowledged; see ``SplitRecord/pauseNanoseconds``.
    var pauseMilliseconds: Double?
    /// The most that a write took; see ``SplitRecord/heldNanoseconds``.
    var heldMilliseconds: Double?

    var json: JSONValue {
        .object([
            ("time_s", .number(seconds)), ("region", .int(Int(clamping: region))),
            ("children", .array(children.map { .int(Int(clamping: $0)) })),
            ("reason", .string(reason.description)),
            ("serve_ms", serveMilliseconds.map { .number($0) } ?? .null),
            ("pause_ms", pauseMilliseconds.map { .number($0) } ?? .null),
            ("held_ms", heldMilliseconds.map { .number($0) } ?? .null),
        ])
    }

    /// What the nodes remember, by when it was applied. `start` is of the benchmark's clock, which stands still
    /// while the machine sleeps; theirs does not.
    static func events(_ records: [SplitRecord], since start: UInt64) -> [SplitEvent] {
        let ahead = SystemClock().now().nanoseconds &- BenchClock.now()
        return records.map { record in
            let applied = Int64(bitPattern: record.appliedAt.nanoseconds &- ahead &- start)
            return SplitEvent(
                seconds: Double(applied) / 1e9, region: record.region.rawValue,
                children: record.children.map(\.rawValue), reason: record.reason,
                serveMilliseconds: record.nanosecondsToServe.map { Double($0) / 1e6 },
                pauseMilliseconds: record.pauseNanoseconds.map { Double($0) / 1e6 },
                heldMilliseconds: record.heldNanoseconds.map { Double($0) / 1e6 })
        }.sorted { ($0.seconds, $0.region) < ($1.seconds, $1.region) }
    }
}

/// How a cluster stands at one moment of a load.
struct ClusterGlance: Equatable, Sendable {
    var regions: Int
    /// Regions that each node leads.
    var led: [Int]
    /// Divisions since the nodes were started; nil where they do not tell.
    var splits: Int?

    init(regions: Int, led: [Int], splits: Int?) {
        self.regions = regions
        self.led = led
        self.splits = splits
    }

    /// As the nodes see it, each what it leads.
    init?(_ found: [Topology], splits: Int?) {
        guard let first = found.first else { return nil }
        self.init(
            regions: found.map(\.regions.count).max() ?? first.regions.count,
            led: found.map { one in one.regions.count { $0.leader == one.node } },
            splits: splits)
    }
}
