// What a failover run found: exact times, one for each kill.

import UkehiBase

/// One kill and what followed; times in nanoseconds.
struct FailoverRound: Sendable {
    var region: RegionID
    /// The node that was killed.
    var node: String
    /// Regions that it led.
    var regionsLed: Int
    /// From the kill to the first acknowledged write to the region.
    var recovery: UInt64
    /// From the kill until each region has had one.
    var everyRegion: UInt64
    /// From the node's new start until it serves, and until it has caught up.
    var restart: UInt64
    var caughtUp: UInt64
    /// Writes from the kill until all was well again.
    var counts: WriteCounts

    func line(_ number: Int) -> String {
        FailoverReport.line([
            "\(number)", node, "\(regionsLed)", milliseconds(recovery), milliseconds(everyRegion),
            milliseconds(restart), milliseconds(caughtUp), "\(counts.unknown)", "\(counts.failed)",
        ])
    }
}

/// Times of all kills: the exact ones, and percentiles of them by nearest rank.
struct ExactTimes: Equatable, Sendable {
    /// In milliseconds, ascending.
    let sorted: [Double]

    init(nanoseconds: [UInt64]) { sorted = nanoseconds.sorted().map { Double($0) / 1e6 } }

    /// The least time that `percent` of a hundred do not exceed.
    func percentile(_ percent: Double) -> Double {
        guard !sorted.isEmpty else { return 0 }
        let rank = Int((percent / 100 * Double(sorted.count)).rounded(.up))
        return sorted[min(max(rank, 1), sorted.count) - 1]
    }

    var json: JSONValue {
        .object([
            ("p50", .number(percentile(50))), ("p99", .number(percentile(99))),
            ("max", .number(percentile(100))), ("all", .array(sorted.map { .number($0) })),
        ])
    }
}

/// A run's findings.
struct FailoverReport: Sendable {
    let settings: FailoverSettings
    var rounds: [FailoverRound] = []
    /// Of the whole run.
    var counts = WriteCounts()
    /// Acknowledged and not there.
    var lost = 0
    /// Refused as not done, and there.
    var undead = 0
    /// Keys that nobody wrote, or with another value.
    var different = 0

    var recovery: ExactTimes { ExactTimes(nanoseconds: rounds.map(\.recovery)) }
    var everyRegion: ExactTimes { ExactTimes(nanoseconds: rounds.map(\.everyRegion)) }
    private var restart: ExactTimes { ExactTimes(nanoseconds: rounds.map(\.restart)) }
    private var caughtUp: ExactTimes { ExactTimes(nanoseconds: rounds.map(\.caughtUp)) }

    /// What is wrong; nil: every write is as its client was told.
    var difference: String? {
        guard lost + undead + different > 0 else { return nil }
        return "\(lost) acknowledged writes are missing, \(undead) refused ones are there, "
            + "\(different) keys are not what was written"
    }

    var json: JSONValue {
        .object([
            ("recovery_ms", recovery.json), ("every_region_ms", everyRegion.json),
            ("restart_ms", restart.json), ("caught_up_ms", caughtUp.json),
            ("kills", .int(rounds.count)),
            ("writes_acknowledged", .int(counts.acknowledged)),
            ("writes_outcome_unknown", .int(counts.unknown)),
            ("writes_failed", .int(counts.failed)),
            ("verified", .bool(difference == nil)), ("lost", .int(lost)),
            ("difference", difference.map { .string($0) } ?? .null),
            ("settings", settings.json),
        ])
    }

    // MARK: For people

    private static let widths = [4, 9, 6, 10, 10, 10, 10, 8, 7]

    static func line(_ cells: [String]) -> String {
        "  " + zip(cells, widths).map { BenchFormat.padded($0, $1) }.joined()
    }

    static var heading: String {
        line([
            "KILL", "NODE", "LED", "RECOVERY", "EVERY", "RESTART", "CAUGHT UP", "UNKNOWN",
            "FAILED",
        ])
    }

    var table: String {
        var lines = ["", FailoverReport.line(["", "", "", "p50", "p99", "max", "", "", ""])]
        func row(_ name: String, _ times: ExactTimes) {
            let cells = [50, 99, 100].map {
                BenchFormat.padded("\(BenchFormat.fixed(times.percentile($0), 0)) ms", 10)
            }
            lines.append("  " + name + BenchFormat.padded("", 19 - name.count) + cells.joined())
        }
        row("recovery", recovery)
        row("every region", everyRegion)
        row("restart", restart)
        row("caught up", caughtUp)
        lines.append("")
        lines.append(
            "  \(rounds.count) kills, \(settings.nodes) nodes, state \(settings.state.rawValue); "
                + "\(BenchFormat.count(Double(counts.acknowledged))) writes acknowledged, "
                + "\(BenchFormat.count(Double(counts.unknown))) outcomes unknown, "
                + "\(BenchFormat.count(Double(counts.failed))) failed")
        lines.append(
            difference.map { "  WRONG       \($0)" }
                ?? "  verified    each acknowledged write is there, no refused one is")
        return lines.joined(separator: "\n")
    }
}

/// `612 ms`.
private func milliseconds(_ nanoseconds: UInt64) -> String {
    "\(BenchFormat.fixed(Double(nanoseconds) / 1e6, 0)) ms"
}
