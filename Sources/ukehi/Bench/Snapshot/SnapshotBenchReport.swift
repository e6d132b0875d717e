// What a run of `ukehi bench snapshot` found.

/// What everything took in one round.
struct SnapshotBenchRound: Sendable {
    var scan = Stretch()
    var making = Stretch()
    var compressing = Stretch()
    var decompressing = Stretch()
    var building = Stretch()
    var installing = Stretch()
    /// Whether the installed region's digest is the source's.
    var isEqual = false

    /// As a share of what its slowest part takes by itself: 1 is as fast as can be in one go.
    func makingRatio(_ clock: KeyPath<Stretch, UInt64>) -> Double {
        share(max(scan[keyPath: clock], compressing[keyPath: clock]), making[keyPath: clock])
    }
    func installingRatio(_ clock: KeyPath<Stretch, UInt64>) -> Double {
        share(
            max(building[keyPath: clock], decompressing[keyPath: clock]),
            installing[keyPath: clock])
    }
    private func share(_ part: UInt64, _ whole: UInt64) -> Double {
        Double(part) / Double(max(whole, 1))
    }
}

/// Values of the rounds.
struct Spread: Equatable, Sendable {
    let sorted: [Double]

    init(_ values: [Double]) { sorted = values.sorted() }

    /// Of two in the middle the lower one.
    var median: Double { sorted.isEmpty ? 0 : sorted[(sorted.count - 1) / 2] }
    var least: Double { sorted.first ?? 0 }
    var most: Double { sorted.last ?? 0 }

    var json: JSONValue {
        .object([
            ("median", .number(median)), ("min", .number(least)), ("max", .number(most)),
        ])
    }
}

/// One size of records.
struct SnapshotBenchRow: Sendable {
    var valueBytes: Int
    var records: Int
    /// Of the snapshot's records before and after compression.
    var rawBytes: UInt64 = 0
    var storedBytes: UInt64 = 0
    var rounds: [SnapshotBenchRound] = []

    init(valueBytes: Int, records: Int) {
        self.valueBytes = valueBytes
        self.records = records
    }

    /// Bytes of records a second.
    func rate(_ part: KeyPath<SnapshotBenchRound, Stretch>) -> Spread {
        Spread(rounds.map { Double(rawBytes) / Double(max($0[keyPath: part].wall, 1)) * 1e9 })
    }
    func makingRatio(_ clock: KeyPath<Stretch, UInt64>) -> Spread {
        Spread(rounds.map { $0.makingRatio(clock) })
    }
    func installingRatio(_ clock: KeyPath<Stretch, UInt64>) -> Spread {
        Spread(rounds.map { $0.installingRatio(clock) })
    }
    var isVerified: Bool { rounds.allSatisfy(\.isEqual) }
}

/// A run's findings.
struct SnapshotBenchReport: Sendable {
    let settings: SnapshotBenchSettings
    var rows: [SnapshotBenchRow] = []

    init(settings: SnapshotBenchSettings) { self.settings = settings }

    var isVerified: Bool { rows.allSatisfy(\.isVerified) }

    var json: JSONValue {
        .object([
            ("rows", .array(rows.map(\.json))), ("digests_equal", .bool(isVerified)),
            ("settings", settings.json),
        ])
    }

    var table: String {
        var table = TextTable([
            ("VALUES", .right), ("SCAN", .right), ("ZSTD", .right), ("MADE", .right),
            ("MADE /", .right), ("CPU", .right), ("BUILT", .right), ("UNZSTD", .right),
            ("INSTALLED", .right), ("INST /", .right), ("CPU", .right), ("STORED", .right),
            ("DIGESTS", .left),
        ])
        for row in rows {
            func rate(_ part: KeyPath<SnapshotBenchRound, Stretch>) -> String {
                BenchFormat.count(row.rate(part).median / 1e6)
            }
            func ratio(_ spread: Spread) -> String {
                "\(BenchFormat.ratio(spread.median)) (\(BenchFormat.ratio(spread.least))"
                    + "–\(BenchFormat.ratio(spread.most)))"
            }
            table.append([
                byteText(UInt64(row.valueBytes)), rate(\.scan), rate(\.compressing),
                rate(\.making), ratio(row.makingRatio(\.wall)),
                BenchFormat.ratio(row.makingRatio(\.processor).median), rate(\.building),
                rate(\.decompressing), rate(\.installing), ratio(row.installingRatio(\.wall)),
                BenchFormat.ratio(row.installingRatio(\.processor).median),
                BenchFormat.ratio(Double(row.storedBytes) / Double(max(row.rawBytes, 1))),
                row.isVerified ? "equal" : "DIFFERENT",
            ])
        }
        return
            ([
                "",
                "  MB/s of records, state \(settings.state.rawValue), "
                    + "\(byteText(UInt64(settings.bytes))) each, medians of \(settings.rounds)",
            ]
            + table.lines.map { "  " + $0 }).joined(separator: "\n")
    }
}

extension SnapshotBenchRow {
    fileprivate var json: JSONValue {
        let rates: [(String, KeyPath<SnapshotBenchRound, Stretch>)] = [
            ("scan_bytes_per_second", \.scan), ("zstd_bytes_per_second", \.compressing),
            ("made_bytes_per_second", \.making), ("built_bytes_per_second", \.building),
            ("unzstd_bytes_per_second", \.decompressing),
            ("installed_bytes_per_second", \.installing),
        ]
        return .object(
            [
                ("value_bytes", .int(valueBytes)), ("records", .int(records)),
                ("raw_bytes", .int(Int(rawBytes))), ("stored_bytes", .int(Int(storedBytes))),
            ] + rates.map { ($0.0, rate($0.1).json) } + [
                ("made_ratio", makingRatio(\.wall).json),
                ("made_cpu_ratio", makingRatio(\.processor).json),
                ("installed_ratio", installingRatio(\.wall).json),
                ("installed_cpu_ratio", installingRatio(\.processor).json),
                ("digests_equal", .bool(isVerified)),
            ])
    }
}
