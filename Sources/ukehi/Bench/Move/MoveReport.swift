// What a run of `ukehi bench move` found.

/// A stretch of the load.
struct MovePhase: Sendable {
    var seconds = 0.0
    /// Answered operations of each whole second.
    var perSecond: [Double] = []
    var operations: UInt64 = 0
    var latency = LatencySummary()

    var rate: Double { Double(operations) / max(seconds, 1e-9) }

    var json: JSONValue {
        .object([
            ("seconds", .number(seconds)), ("operations_per_second", .number(rate)),
            ("least_second", .number(perSecond.min() ?? rate)),
            (
                "latency_us",
                .object([
                    ("p50", .number(latency.p50)), ("p99", .number(latency.p99)),
                    ("max", .number(latency.max)),
                ])
            ),
        ])
    }
}

/// A run's findings.
struct MoveReport: Sendable {
    let settings: MoveSettings
    var before = MovePhase()
    var during = MovePhase()
    var after = MovePhase()
    /// Bytes of the snapshots' files; what went over beside the log.
    var snapshotBytes: UInt64 = 0
    /// What the region's leader did, in order.
    var steps: [String] = []
    var verification = VerificationResult(summary: "not verified")

    init(settings: MoveSettings) { self.settings = settings }

    /// Throughput while the region moved, as a share of that before.
    var ratio: Double { during.rate / max(before.rate, 1e-9) }
    /// As a share of the mean of before and after: what a machine that becomes slower, or data that
    /// becomes older, does not change.
    var ratioToBoth: Double { 2 * during.rate / max(before.rate + after.rate, 1e-9) }

    var json: JSONValue {
        .object([
            ("before", before.json), ("during", during.json), ("after", after.json),
            ("ratio", .number(ratio)), ("ratio_to_both", .number(ratioToBoth)),
            ("snapshot_bytes", .int(Int(clamping: snapshotBytes))),
            ("steps", .array(steps.map { .string($0) })),
            ("verified", .bool(verification.difference == nil)),
            ("verified_by", .string(verification.summary)),
            ("difference", verification.difference.map { .string($0) } ?? .null),
            ("settings", settings.json),
        ])
    }

    var table: String {
        var table = TextTable([
            ("", .left), ("SECONDS", .right), ("OPERATIONS/S", .right), ("LEAST SECOND", .right),
            ("P50", .right), ("P99", .right), ("MAX", .right),
        ])
        for (name, phase) in [("before", before), ("during", during), ("after", after)] {
            table.append([
                name, BenchFormat.fixed(phase.seconds, 1), BenchFormat.count(phase.rate),
                BenchFormat.count(phase.perSecond.min() ?? phase.rate),
                BenchFormat.time(phase.latency.p50), BenchFormat.time(phase.latency.p99),
                BenchFormat.time(phase.latency.max),
            ])
        }
        return
            ([
                "",
                "  one region of \(byteText(UInt64(settings.bytes))) moved to a fourth node under "
                    + "load, state \(settings.state.rawValue)",
            ]
            + table.lines.map { "  " + $0 }
            + [
                "  during / before \(BenchFormat.ratio(ratio)), during / mean of both "
                    + "\(BenchFormat.ratio(ratioToBoth)); "
                    + "\(byteText(snapshotBytes)) of snapshots",
                "  \(verification.difference.map { "DIFFERENT: \($0)" } ?? verification.summary)",
            ]).joined(separator: "\n")
    }
}
