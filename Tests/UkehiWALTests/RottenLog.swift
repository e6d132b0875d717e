// A log whose bodies rot, one byte at a time, and what it was before.

import UkehiBase
import UkehiEnvironment
import UkehiSimulation

@testable import UkehiWAL

/// One record's body on the disk, its length 0 if it has none.
struct StoredBody {
    var segment: UInt64
    /// From the file's start.
    var offset: Int
    var item: BatchItem

    var path: String { SmallLog.path(LogNames.segment(segment)) }
    var range: Range<Int> { offset..<offset + Int(item.bodyBytes) }
    var entries: DamagedEntries {
        DamagedEntries(
            region: item.region, first: item.firstIndex, last: item.endIndex - 1)
    }
}

extension SmallLog {
    /// As ``options``, with entries that cannot be read to be had from peers. The background check does
    /// not go by itself.
    static var repairing: WALOptions {
        var options = SmallLog.options
        options.damagePolicy = .repair
        return options
    }

    /// The same, with all frames read at opening: footers do for those that have one.
    static var scanning: WALOptions {
        var options = SmallLog.repairing
        options.readsFooters = false
        return options
    }

    /// Opens a copy of a disk under ``DamagePolicy/repair``. All copies of one disk come to the same
    /// bytes.
    static func repaired(
        _ fileSystem: SimulatedFileSystem, options: WALOptions = SmallLog.repairing
    ) throws(WALError) -> SmallLog {
        try SmallLog(fileSystem.copy(), options: options, seed: 99)
    }

    /// Every record that has a body, in the order of the log, with the entries in it.
    static func bodiesWithEntries(
        _ fileSystem: SimulatedFileSystem
    ) throws -> [(body: StoredBody, entries: [Entry])] {
        var bodies: [StoredBody] = []
        var entries: [Entry] = []
        try WALInspector(fileSystem: fileSystem, directory: directory).dump { record in
            switch record {
            case .frame(let frame):
                var offset =
                    Int(frame.offset) + FrameFormat.headerBytes
                    + frame.batches.count * FrameFormat.itemBytes
                for item in frame.batches {
                    bodies.append(StoredBody(segment: frame.segment, offset: offset, item: item))
                    offset += Int(item.bodyBytes)
                }
            case .entry(let entry):
                entries.append(
                    Entry(
                        term: entry.term, index: entry.index, kind: entry.kind, data: entry.data))
            default: break
            }
            return true
        }
        var rest = entries[...]
        return bodies.map { body in
            let count = body.item.kind == .append ? Int(body.item.count) : 0
            defer { rest = rest.dropFirst(count) }
            return (body, Array(rest.prefix(count)))
        }.filter { $0.0.item.bodyBytes > 0 }
    }

    static func bodies(_ fileSystem: SimulatedFileSystem) throws -> [StoredBody] {
        try bodiesWithEntries(fileSystem).map(\.body)
    }

    /// The body of the append that begins at an index; of several, the newest.
    static func body(
        _ fileSystem: SimulatedFileSystem, _ region: UInt64, from first: UInt64
    ) throws -> StoredBody {
        let bodies = try bodies(fileSystem).filter {
            $0.item.region == RegionID(region) && $0.item.kind == .append
                && $0.item.firstIndex == LogIndex(first)
        }
        guard let body = bodies.last else {
            throw ModelMismatch("no body of \(region) at \(first)")
        }
        return body
    }

    func read(
        _ region: UInt64, _ range: ClosedRange<UInt64>
    ) throws(WALError) -> [Entry] {
        try log.entries(
            region: RegionID(region), from: LogIndex(range.lowerBound),
            to: LogIndex(range.upperBound + 1), maxBytes: .max)
    }

    func mend(
        _ region: UInt64, from first: UInt64, with entries: [Entry]
    ) throws(WALError) -> MendOutcome {
        try log.mend(region: RegionID(region), first: LogIndex(first), entries: entries)
    }

    /// What reading ends with, if it does.
    func readingError(_ region: UInt64, _ range: ClosedRange<UInt64>) -> WALError? {
        do throws(WALError) {
            _ = try read(region, range)
            return nil
        } catch {
            return error
        }
    }
}

extension SimulatedFileSystem {
    /// Changes one bit of a body.
    func flip(_ body: StoredBody, byte: Int = 20) {
        flip(body.path, at: body.offset + byte)
    }

    func flip(_ path: String, at offset: Int) {
        guard let old = contents(path)?[offset] else { return }
        damage(path, at: offset, with: [old ^ 0x10])
    }

    /// All files of the log.
    var everything: [String: [UInt8]] {
        var files: [String: [UInt8]] = [:]
        for name in (try? list(SmallLog.directory)) ?? [] {
            files[name] = contents(SmallLog.path(name))
        }
        return files
    }

    var problem: WALError? {
        WALInspector(fileSystem: self, directory: SmallLog.directory).verify().problem
    }
}
