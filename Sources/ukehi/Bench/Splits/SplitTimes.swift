// How long splits took, all of a run's together.

/// Percentiles of a few hundred times, in milliseconds.
struct SplitTimes: Equatable, Sendable {
    var count = 0
    var p50 = 0.0
    var p99 = 0.0
    var most = 0.0

    init(_ milliseconds: [Double]) {
        let sorted = milliseconds.sorted()
        guard let last = sorted.last else { return }
        count = sorted.count
        most = last
        // The nearest rank: a time that there was.
        func percentile(_ percent: Double) -> Double {
            let rank = (percent / 100 * Double(sorted.count)).rounded(.up)
            return sorted[min(max(Int(rank), 1), sorted.count) - 1]
        }
        p50 = percentile(50)
        p99 = percentile(99)
    }

    var text: String {
        guard count > 0 else { return "not known" }
        return "p50 \(BenchFormat.time(p50 * 1000)), p99 \(BenchFormat.time(p99 * 1000)), max "
            + "\(BenchFormat.time(most * 1000))"
    }

    var json: JSONValue {
        guard count > 0 else { return .null }
        return .object([
            ("count", .int(count)), ("p50", .number(p50)), ("p99", .number(p99)),
            ("max", .number(most)),
        ])
    }
}

extension [SplitEvent] {
    /// From the decision until all parts serve.
    var serveTimes: SplitTimes { SplitTimes(compactMap(\.serveMilliseconds)) }
    /// For how long no write of a new range was acknowledged.
    var pauseTimes: SplitTimes { SplitTimes(compactMap(\.pauseMilliseconds)) }
    /// The most that a write took.
    var heldTimes: SplitTimes { SplitTimes(compactMap(\.heldMilliseconds)) }
}
