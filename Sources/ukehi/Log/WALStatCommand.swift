// `ukehi wal stat`: what the log's bytes are spent on, and who holds them.

import ArgumentParser
import UkehiBase
import UkehiWAL

extension WALCommand {
    struct Stat: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show what the log's bytes are spent on, and which regions hold them.",
            discussion: """
                Live bytes are those that a node would serve after a restart; dead ones are \
                superseded, compacted away, or padding; free ones are prepared and not written yet. \
                Segments go oldest first: the regions that hold the oldest one back are named.

                EXAMPLES
                  ukehi wal stat ./data
                  ukehi wal stat ./data --top 50
                  ukehi wal stat ./data --json | jq 'select(.type == "region")'
                """)

        @OptionGroup var log: LogOptions
        @Option(help: "So many regions in each list; --json has all of them.") var top = 10

        func validate() throws {
            if top < 0 { throw ValidationError("--top \(top): allowed is 0 and up") }
        }

        func run() throws {
            let progress = ProgressLine("reading")
            let report = log.inspector(progress).stat()
            progress.end()
            if log.json {
                for object in objects(of: report) { printLine(object.text) }
            } else if report.problem == nil {
                for line in lines(of: report, top: top) { printLine(line) }
            }
            try fail(report.problem, saidInJSON: log.json)
        }
    }
}

// MARK: - For people

/// The whole report, at most `top` regions in each list.
func lines(of report: WALInspector.StatReport, top: Int) -> [String] {
    var lines = segmentLines(report)
    lines += ["", ink("held back", .bold) + "  " + heldBack(report, top)]
    if top > 0, !report.regions.isEmpty {
        lines += ["", ink("regions by live bytes", .bold)]
        lines += regionTable(report.regions.prefix(top)).map { "  " + $0 }
        if report.regions.count > top { lines.append("  and \(report.regions.count - top) more") }
    }
    let perFrame = Double(report.batches) / Double(max(report.frames, 1))
    lines += [
        "",
        ink("batches", .bold)
            + "  \(report.batches) with \(report.entries) entries in \(report.frames) frames, "
            + "\(BenchFormat.ratio(perFrame)) a frame",
    ]
    lines += histogram(report.batchBytes, "bytes") + histogram(report.batchEntries, "entries")
    lines += ["", ink("frames", .bold) + "  " + frameText(report)]
    lines += tenthLines(report.frameFill, "filled")
    lines += ["", ink("compression", .bold) + "  " + compressionText(report)]
    lines += tenthLines(report.compressionRatio, "left")
    return lines
}

private let barWidth = 48

private func segmentLines(_ report: WALInspector.StatReport) -> [String] {
    let largest = max(report.segments.map(\.fileBytes).max() ?? 1, report.preparedBytes, 1)
    var lines = [ink("segments", .bold) + "  █ live  ▒ dead  · free"]
    func cells(_ bytes: UInt64) -> Int { Int(Double(bytes) / Double(largest) * Double(barWidth)) }
    for segment in report.segments {
        // Something live is seen, however little.
        let live = segment.liveBytes == 0 ? 0 : max(cells(segment.liveBytes), 1)
        let used = max(cells(segment.usedBytes), live)
        let all = max(cells(segment.fileBytes), used)
        let bar =
            ink(String(repeating: "█", count: live), .green)
            + String(repeating: "▒", count: used - live) + String(repeating: "·", count: all - used)
            + String(repeating: " ", count: max(barWidth - all, 0))
        lines.append(
            "  \(BenchFormat.padded("\(segment.segment)", 8))  \(bar)  "
                + "live \(byteText(segment.liveBytes)), dead \(byteText(segment.deadBytes)), "
                + "free \(byteText(segment.freeBytes))")
    }
    let others = [
        ("prepared", report.preparedBytes), ("recycled", report.idleBytes),
        ("reserved", report.reservedBytes),
    ]
    for (name, bytes) in others where bytes > 0 {
        let bar = String(repeating: "·", count: min(cells(bytes), barWidth))
        let fill = String(repeating: " ", count: barWidth - bar.count)
        lines.append("  \(name)  \(bar)\(fill)  free \(byteText(bytes))")
    }
    let live = report.segments.reduce(0) { $0 + $1.liveBytes }
    let used = report.segments.reduce(0) { $0 + $1.usedBytes }
    lines.append(
        "  \(byteText(live)) live of \(byteText(used)) written"
            + (live > 0 ? ", \(BenchFormat.ratio(Double(used) / Double(live))) ×" : ""))
    return lines
}

private func heldBack(_ report: WALInspector.StatReport, _ top: Int) -> String {
    guard let oldest = report.segments.first, report.segments.count > 1 else {
        return "nothing: there is one segment"
    }
    let pinning = report.pinning
    guard !pinning.isEmpty else {
        return "nothing: segment \(oldest.segment) can go, once \(report.statesInOldest) states in "
            + "it are written again"
    }
    let shown = pinning.prefix(max(top, 1)).map {
        "\($0.region) (\(byteText($0.pinningBytes)), from entry \($0.firstIndex))"
    }
    let more = pinning.count - shown.count
    return "segment \(oldest.segment), by \(shown.joined(separator: ", "))"
        + (more > 0 ? " and \(more) more" : "")
}

private func regionTable(_ regions: ArraySlice<WALInspector.RegionUse>) -> [String] {
    var table = TextTable([
        ("REGION", .left), ("LIVE", .right), ("ENTRIES", .right), ("FIRST", .right),
        ("LAST", .right), ("OLDEST SEGMENT", .right),
    ])
    for region in regions {
        table.append([
            "\(region.region)", byteText(region.liveBytes), "\(region.entries)",
            "\(region.firstIndex)", "\(region.lastIndex)",
            region.oldestSegment.map { "\($0)" } ?? "-",
        ])
    }
    return table.lines
}

private func histogram(_ buckets: PowerBuckets, _ unit: String) -> [String] {
    guard let last = buckets.counts.lastIndex(where: { $0 > 0 }),
        let first = buckets.counts.firstIndex(where: { $0 > 0 })
    else { return [] }
    let largest = buckets.counts.max() ?? 1
    return (first...last).map { bucket in
        let count = buckets.counts[bucket]
        let label = bucket == 0 ? "under 2" : "from \(1 << bucket)"
        return "  \(BenchFormat.padded(label, 14)) \(unit)  " + bar(count, largest)
    }
}

private func tenthLines(_ tenths: [UInt64], _ what: String) -> [String] {
    let largest = tenths.max() ?? 1
    return tenths.indices.filter { tenths[$0] > 0 }.map { bucket in
        "  \(BenchFormat.padded("\(bucket * 10) to \(bucket * 10 + 10) %", 14)) \(what)  "
            + bar(tenths[bucket], largest)
    }
}

private func bar(_ count: UInt64, _ largest: UInt64) -> String {
    let cells = count == 0 ? 0 : max(Int(count * 30 / max(largest, 1)), 1)
    return String(repeating: "█", count: cells) + (cells > 0 ? " " : "") + "\(count)"
}

private func frameText(_ report: WALInspector.StatReport) -> String {
    let padding = Double(report.paddingBytes) / Double(max(report.frameBytes, 1)) * 100
    return "\(byteText(report.frameBytes)), of that \(byteText(report.paddingBytes)) "
        + "(\(BenchFormat.ratio(padding)) %) padding; \(report.claims) claims without batches"
}

private func compressionText(_ report: WALInspector.StatReport) -> String {
    guard report.compressedBatches > 0 else {
        return "none of \(byteText(report.bodyBytes))"
    }
    let share = Double(report.bodyBytes) / Double(max(report.rawBytes, 1))
    return "\(report.compressedBatches) of \(report.batches) batches; "
        + "\(byteText(report.rawBytes)) in \(byteText(report.bodyBytes)), "
        + "\(BenchFormat.ratio(share))"
}

// MARK: - For machines

/// A line for each segment and region, and one for the log.
func objects(of report: WALInspector.StatReport) -> [JSONValue] {
    var objects: [JSONValue] = report.segments.map { segment in
        .object([
            ("type", .string("segment")), ("segment", number(segment.segment)),
            ("file_bytes", number(segment.fileBytes)), ("used_bytes", number(segment.usedBytes)),
            ("live_bytes", number(segment.liveBytes)), ("dead_bytes", number(segment.deadBytes)),
            ("free_bytes", number(segment.freeBytes)), ("frames", number(segment.frames)),
        ])
    }
    objects += report.regions.map { region in
        .object([
            ("type", .string("region")), ("region", number(region.region.rawValue)),
            ("live_bytes", number(region.liveBytes)), ("entries", number(region.entries)),
            ("first_index", number(region.firstIndex.rawValue)),
            ("last_index", number(region.lastIndex.rawValue)),
            ("oldest_segment", region.oldestSegment.map(number) ?? .null),
            ("bytes_in_oldest_segment", number(region.pinningBytes)),
        ])
    }
    objects.append(
        .object([
            ("type", .string("log")), ("segments", .int(report.segments.count)),
            ("prepared_bytes", number(report.preparedBytes)),
            ("recycled_bytes", number(report.idleBytes)),
            ("reserved_bytes", number(report.reservedBytes)),
            ("regions", .int(report.regions.count)), ("frames", number(report.frames)),
            ("claims", number(report.claims)), ("batches", number(report.batches)),
            ("entries", number(report.entries)), ("frame_bytes", number(report.frameBytes)),
            ("padding_bytes", number(report.paddingBytes)),
            (
                "held_back_by",
                .array(report.pinning.map { number($0.region.rawValue) })
            ),
            ("states_in_oldest_segment", .int(report.statesInOldest)),
            ("batch_bytes_by_power", .array(report.batchBytes.counts.map(number))),
            ("batch_entries_by_power", .array(report.batchEntries.counts.map(number))),
            ("frame_fill_by_tenth", .array(report.frameFill.map(number))),
            ("compressed_batches", number(report.compressedBatches)),
            ("compression_ratio_by_tenth", .array(report.compressionRatio.map(number))),
            ("body_bytes", number(report.bodyBytes)), ("raw_bytes", number(report.rawBytes)),
            ("problem", problem(report.problem)),
        ]))
    return objects
}
