// The log's records as lines for people and objects for machines.

import UkehiBase
import UkehiState
import UkehiWAL

// MARK: For people

/// `segment 1 …`, a line of its own in a dump.
func line(of segment: WALInspector.SegmentInfo) -> String {
    let end = segment.statedEnd.map { "ends at \($0)" } ?? "the newest"
    return ink("segment \(segment.segment)", .bold)
        + "  \(segment.fileName)  \(segment.fileBytes) bytes, from LSN \(segment.firstLSN), \(end)"
}

/// A frame and a line for each batch in it.
func lines(of frame: WALInspector.FrameInfo) -> [String] {
    var head = "  " + ink("frame @\(frame.offset)", .cyan)
    head += "  LSN \(frame.lsn), durable \(frame.durableLSN), "
    head += "\(frame.bytes) bytes, checksum \(hex(frame.checksum))"
    if frame.isClaim { head += ", a claim" }
    return [head] + frame.batches.map(line(of:))
}

private func line(of item: BatchItem) -> String {
    let colour: Ink = item.kind == .append || item.kind == .rewrite ? .green : .yellow
    var text = "    \(item.region) " + ink("\(item.kind)", colour)
    switch item.kind {
    case .append, .rewrite:
        if item.count > 0 {
            text += " \(item.firstIndex)...\(item.endIndex - 1), \(item.bodyBytes) bytes"
            if item.isCompressed {
                let ratio = Double(item.bodyBytes) / Double(item.rawBytes)
                text += " of \(item.rawBytes), compressed to \(BenchFormat.ratio(ratio))"
            }
        }
    case .birth, .tombstone: text += " \(item.bodyBytes) bytes"
    default: text += " from \(item.firstIndex), before it term \(item.lastTerm)"
    }
    if item.hasHardState {
        let state = item.hardState
        text += "; term \(state.term), vote \(state.vote), commit \(state.commit)"
    }
    return text
}

/// An entry and what it asks for.
func line(of entry: WALInspector.EntryInfo) -> String {
    "      \(entry.region) entry \(entry.index)  term \(entry.term), \(entry.bytes) bytes, "
        + "checksum \(hex(entry.checksum))  \(summary(of: entry))"
}

/// `3 commands: 2 put, 1 delete`.
private func summary(of entry: WALInspector.EntryInfo) -> String {
    guard entry.kind == .normal else { return "\(entry.kind)" }
    guard entry.bytes > 0 else { return "a new leader's empty entry" }
    guard let payload = try? EntryPayload.header(of: entry.data) else { return "unreadable" }
    guard payload.kind == .commands else { return "\(payload.kind)" }
    var counts: [(name: String, count: Int)] = []
    forEachCommand(of: entry, payload) { view in
        let name = view.map { "\($0.kind)" } ?? "malformed"
        if let known = counts.firstIndex(where: { $0.name == name }) {
            counts[known].count += 1
        } else {
            counts.append((name, 1))
        }
    }
    return counts.map { "\($0.count) \($0.name)" }.joined(separator: ", ")
}

/// The regions of an audit.
func table(of regions: [WALInspector.RegionInfo]) -> [String] {
    var table = TextTable([
        ("REGION", .left), ("FIRST", .right), ("LAST", .right), ("LAST TERM", .right),
        ("TERM", .right), ("VOTE", .left), ("COMMIT", .right), ("CHECKSUM", .left), ("", .left),
    ])
    for region in regions {
        let note = region.isTombstone ? "gone" : region.isBorn ? "" : "no birth record"
        let state = region.hardState
        table.append([
            "\(region.region)", "\(region.firstIndex)", "\(region.lastIndex)",
            "\(region.lastTerm)", "\(state.term)", "\(state.vote)", "\(state.commit)",
            hex(region.entriesChecksum), note,
        ])
    }
    return table.lines
}

/// What would go with a damaged place.
func lines(of loss: LogLoss) -> [String] {
    let shown = loss.entries.prefix(40)
    var lines = shown.map { entries in
        let range = "entries \(entries.first) to \(entries.last) of \(entries.region)"
        return entries.isDamaged
            ? "  " + ink("damaged: ", .red) + range : "  lost if it were cut there: " + range
    }
    if loss.entries.count > shown.count {
        lines.append("  and of \(loss.entries.count - shown.count) more regions")
    }
    if loss.isUnknown { lines.append("  what the damaged frame held cannot be read") }
    if loss.framesBehind > 0 { lines.append("  \(loss.framesBehind) readable frames behind it") }
    return lines
}

// MARK: For machines

func object(of loss: LogLoss) -> JSONValue {
    .object([
        (
            "entries",
            .array(
                loss.entries.map { entries in
                    .object([
                        ("region", number(entries.region.rawValue)),
                        ("first_index", number(entries.first.rawValue)),
                        ("last_index", number(entries.last.rawValue)),
                        ("damaged", .bool(entries.isDamaged)),
                    ])
                })
        ), ("frames_behind", .int(loss.framesBehind)), ("unknown", .bool(loss.isUnknown)),
    ])
}

func object(of segment: WALInspector.SegmentInfo) -> JSONValue {
    .object([
        ("type", .string("segment")), ("segment", number(segment.segment)),
        ("file", .string(segment.fileName)), ("bytes", number(segment.fileBytes)),
        ("capacity", number(segment.capacity)), ("log", .string(hex(segment.log))),
        ("incarnation", .string(hex(segment.incarnation))),
        ("first_lsn", number(segment.firstLSN)), ("predecessor", number(segment.predecessor)),
        ("predecessor_end", number(segment.predecessorEnd)),
        ("predecessor_last_lsn", number(segment.predecessorLastLSN)),
        ("stated_end", segment.statedEnd.map(number) ?? .null),
    ])
}

func object(of frame: WALInspector.FrameInfo) -> JSONValue {
    .object([
        ("type", .string("frame")), ("segment", number(frame.segment)),
        ("offset", number(frame.offset)), ("bytes", .int(frame.bytes)), ("lsn", number(frame.lsn)),
        ("durable_lsn", number(frame.durableLSN)), ("claim", .bool(frame.isClaim)),
        ("checksum", .string(hex(frame.checksum))),
        ("batches", .array(frame.batches.map(object(of:)))),
    ])
}

private func object(of item: BatchItem) -> JSONValue {
    var fields: [(String, JSONValue)] = [
        ("region", number(item.region.rawValue)), ("kind", .string("\(item.kind)")),
        ("first_index", number(item.firstIndex.rawValue)), ("count", .int(Int(item.count))),
        ("last_term", number(item.lastTerm.rawValue)), ("body_bytes", .int(Int(item.bodyBytes))),
        ("raw_bytes", .int(Int(item.rawBytes))), ("compressed", .bool(item.isCompressed)),
        ("body_checksum", .string(hex(item.bodyChecksum))),
        ("previous_lsn", number(item.previousLSN)),
    ]
    if item.hasHardState {
        fields.append(("hard_state", object(of: item.hardState)))
    }
    return .object(fields)
}

private func object(of state: HardState) -> JSONValue {
    .object([
        ("term", number(state.term.rawValue)), ("vote", number(state.vote.rawValue)),
        ("commit", number(state.commit.rawValue)),
    ])
}

func object(of entry: WALInspector.EntryInfo) -> JSONValue {
    var fields: [(String, JSONValue)] = [
        ("type", .string("entry")), ("region", number(entry.region.rawValue)),
        ("index", number(entry.index.rawValue)), ("term", number(entry.term.rawValue)),
        ("kind", .string("\(entry.kind)")), ("lsn", number(entry.lsn)),
        ("position", object(of: entry.position)), ("bytes", .int(entry.bytes)),
        ("checksum", .string(hex(entry.checksum))),
    ]
    if entry.kind == .normal, entry.bytes > 0 {
        if let payload = try? EntryPayload.header(of: entry.data) {
            fields.append(("payload", .string("\(payload.kind)")))
            fields.append(("time", number(payload.loggedTime)))
            var commands: [JSONValue] = []
            forEachCommand(of: entry, payload) { commands.append(object(of: $0)) }
            if payload.kind == .commands { fields.append(("commands", .array(commands))) }
        } else {
            fields.append(("payload", .string("unreadable")))
        }
    }
    return .object(fields)
}

/// A command by kind, lengths and checksums; of a batch, those in it.
private func object(of view: CommandView?) -> JSONValue {
    guard let view else { return .object([("kind", .string("malformed"))]) }
    var fields: [(String, JSONValue)] = [
        ("kind", .string("\(view.kind)")), ("key_bytes", .int(view.key.count)),
        ("key_checksum", .string(hex(CRC32C.checksum(view.key)))),
    ]
    if view.kind == .batch {
        var nested = NestedRecords(view.body)
        var commands: [JSONValue] = []
        while let inner = try? nested.next() { commands.append(object(of: inner)) }
        fields.append(("commands", .array(commands)))
    } else {
        fields.append(("body_bytes", .int(view.body.count)))
        fields.append(("body_checksum", .string(hex(CRC32C.checksum(view.body)))))
    }
    return .object(fields)
}

func object(of region: WALInspector.RegionInfo) -> JSONValue {
    .object([
        ("region", number(region.region.rawValue)), ("hard_state", object(of: region.hardState)),
        ("first_index", number(region.firstIndex.rawValue)),
        ("last_index", number(region.lastIndex.rawValue)),
        ("last_term", number(region.lastTerm.rawValue)),
        ("compacted_term", number(region.compactedTerm.rawValue)),
        ("born", .bool(region.isBorn)), ("tombstone", .bool(region.isTombstone)),
        ("entries_checksum", .string(hex(region.entriesChecksum))),
    ])
}

func object(of position: LogPosition) -> JSONValue {
    .object([("segment", number(position.segment)), ("offset", number(position.offset))])
}

func problem(_ error: WALError?) -> JSONValue {
    guard let error else { return .null }
    return .object([
        ("code", .string("\(error.code)")), ("message", .string(error.message)),
        ("position", error.position.map(object(of:)) ?? .null),
    ])
}

/// A number that fits JSON's integers as most readers take them: no log comes near 2^53.
func number(_ value: UInt64) -> JSONValue { .int(Int(clamping: value)) }

func hex(_ value: some FixedWidthInteger & UnsignedInteger) -> String {
    let digits = String(value, radix: 16)
    return String(repeating: "0", count: value.bitWidth / 4 - digits.count) + digits
}

/// Visits the commands of an entry; nil for one that cannot be read.
private func forEachCommand(
    of entry: WALInspector.EntryInfo, _ payload: EntryPayload, _ visit: (CommandView?) -> Void
) {
    guard payload.kind == .commands else { return }
    entry.data.withUnsafeBytes { raw in
        var records = EntryRecords(payload, in: raw)
        while let record = records.next() { visit(try? CommandView(record: record)) }
    }
}
