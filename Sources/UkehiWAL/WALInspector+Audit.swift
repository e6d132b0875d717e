// The index against a full scan: what recovery would serve, entry by entry, compared with what a
// reader finds that knows nothing but the format and a dictionary.

package import UkehiBase
import UkehiEnvironment

extension WALInspector {
    /// One region as recovery would open it.
    package struct RegionInfo: Sendable, Hashable {
        package var region: RegionID
        package var hardState: HardState
        package var firstIndex: LogIndex
        package var lastIndex: LogIndex
        package var lastTerm: Term
        package var compactedTerm: Term
        package var isBorn: Bool
        package var isTombstone: Bool
        /// CRC32C over index, term, kind and data of all entries, in order: equal logs have equal ones.
        package var entriesChecksum: UInt32
    }

    /// What ``audit()`` found.
    package struct AuditReport: Sendable, Hashable {
        /// Ascending.
        package var regions: [RegionInfo] = []
        package var entries: UInt64 = 0
        /// Where index and scan disagree; empty if the log is sound.
        package var differences: [String] = []
        /// What keeps the log from being opened at all.
        package var problem: WALError?
        package var isSound: Bool { differences.isEmpty && problem == nil }
    }

    /// Rebuilds every region by a full scan and compares it with the index that recovery builds.
    package func audit() -> AuditReport {
        settled {
            var report = AuditReport()
            do throws(WALError) {
                try audit(&report)
            } catch {
                report.problem = error
            }
            return (report, report.problem)
        }
    }

    private func audit(_ report: inout AuditReport) throws(WALError) {
        let found = try open()
        var replay = Replay(isComplete: found.isComplete)
        var scan = NaiveScan()
        var progress = ReadProgress(found, onProgress)
        for position in found.segments.indices {
            progress.begin(position)
            _ = try replay.read(
                found.segments[position], successor: found.successor(of: position)
            ) { (frame) throws(WALError) in
                progress.read(frame)
                scan.take(frame)
            }
        }
        try replay.finish()
        for slot in 0..<replay.regions.count {
            let log = replay.regions[slot]
            let seen = scan.regions[log.region] ?? NaiveRegion()
            report.regions.append(
                try compare(log, replay.termRuns(slot: slot), seen, found, &report))
        }
        report.regions.sort { $0.region < $1.region }
    }

    private func compare(
        _ log: RegionLog, _ runs: [TermRun], _ seen: NaiveRegion, _ found: LogDirectory,
        _ report: inout AuditReport
    ) throws(WALError) -> RegionInfo {
        let state = log.staged
        func differ(_ what: String) { report.differences.append("\(log.region): \(what)") }
        let lastTerm = state.lastIndex < state.firstIndex ? nil : runs.last?.term
        var info = RegionInfo(
            region: log.region, hardState: state.hardState, firstIndex: state.firstIndex,
            lastIndex: state.lastIndex, lastTerm: lastTerm ?? state.compactedTerm,
            compactedTerm: state.compactedTerm, isBorn: state.birth != nil,
            isTombstone: state.tombstone != nil, entriesChecksum: 0)
        if seen.hardState != state.hardState {
            differ("the hard state is not the last one written")
        }
        var checksum = CRC32C()
        var due = state.firstIndex.rawValue
        var run = 0
        for block in log.index.live {
            let body = try body(of: block, log.region, found)
            _ = body.withUnsafeBytes { raw in
                walkRecords(Int(block.count), in: raw) { position, record in
                    let index = block.first + UInt64(position)
                    guard index >= due else { return }
                    if index > due { differ("entries \(due) to \(index - 1) are not indexed") }
                    due = index + 1
                    report.entries += 1
                    let data = UnsafeRawBufferPointer(
                        rebasing: raw[record.offset..<record.offset + record.count])
                    let expected = NaiveEntry(
                        term: record.term, kind: record.kind, checksum: CRC32C.checksum(data))
                    if seen.entries[index] != expected {
                        differ("entry \(index) is not the last one written")
                    }
                    while run + 1 < runs.count, runs[run + 1].start.rawValue <= index { run += 1 }
                    if run >= runs.count || runs[run].term != record.term {
                        differ("the term of entry \(index) is not the recovered one")
                    }
                    expected.add(to: &checksum, index: index, data: data)
                }
            }
        }
        if due != state.lastIndex.rawValue + 1 {
            differ("entries \(due) to \(state.lastIndex) are not indexed")
        }
        if let last = seen.entries.keys.max(), last > state.lastIndex.rawValue {
            differ("entry \(last) is in the log but not recovered")
        }
        info.entriesChecksum = checksum.value
        return info
    }

    /// What the block's body held when it was written.
    func body(
        of block: IndexBlock, _ region: RegionID, _ found: LogDirectory
    ) throws(WALError) -> Bytes {
        let place = LogPosition(segment: UInt64(block.segment), offset: UInt64(block.bodyOffset))
        guard let segment = found.segments.first(where: { $0.id == place.segment }) else {
            throw WALError(.corrupted, "\(region) is indexed in a segment that is gone.", at: place)
        }
        let body = try attempt { () throws(FileError) in
            try Bytes(count: Int(block.bodyBytes)) { (buffer) throws(FileError) in
                try segment.file.read(into: buffer, at: place.offset)
            }
        }
        let seed = FrameFormat.bodySeed(region: region, firstIndex: LogIndex(block.first))
        guard CRC32C.checksum(body, seed: seed) == block.bodyChecksum else {
            throw WALError(
                .corrupted, "Indexed entries of \(region) fail their checksum.", at: place)
        }
        guard block.isCompressed else { return body }
        guard let raw = BodyCompression.decompressed(body, rawBytes: Int(block.rawBytes)) else {
            throw WALError(
                .corrupted, "Indexed entries of \(region) are compressed to something else.",
                at: place)
        }
        return raw
    }
}

/// One entry as the scan remembers it.
private struct NaiveEntry: Hashable {
    var term: Term
    var kind: EntryKind
    var checksum: UInt32

    func add(to running: inout CRC32C, index: UInt64, data: UnsafeRawBufferPointer) {
        withUnsafeBytes(
            of: (index.littleEndian, term.rawValue.littleEndian, UInt64(kind.rawValue).littleEndian)
        ) { running.update($0) }
        running.update(data)
    }
}

private struct NaiveRegion {
    var hardState = HardState.empty
    var entries: [UInt64: NaiveEntry] = [:]
    /// No entry is below or above.
    var lowest: UInt64 = 1
    var highest: UInt64 = 0

    mutating func put(_ item: BatchItem, _ body: UnsafeRawBufferPointer) {
        let first = item.firstIndex.rawValue
        _ = forEachRecord(of: item, in: body) { position, record in
            let data = UnsafeRawBufferPointer(
                rebasing: body[record.offset..<record.offset + record.count])
            entries[first + UInt64(position)] = NaiveEntry(
                term: record.term, kind: record.kind, checksum: CRC32C.checksum(data))
        }
    }

    mutating func remove(_ range: ClosedRange<UInt64>) {
        if range.count > entries.count {
            for index in entries.keys.filter({ range.contains($0) }) { entries[index] = nil }
        } else {
            for index in range { entries[index] = nil }
        }
    }
}

/// Applies records to dictionaries, one entry at a time.
private struct NaiveScan {
    var regions: [RegionID: NaiveRegion] = [:]

    mutating func take(_ frame: FrameView) {
        for (item, offset) in zip(frame.items, frame.bodyOffsets()) {
            var region = regions.removeValue(forKey: item.region) ?? NaiveRegion()
            if item.hasHardState {
                var next = item.hardState
                if item.kind == .append || item.kind == .reset {
                    next.commit = max(next.commit, region.hardState.commit)
                }
                region.hardState = next
            }
            switch item.kind {
            case .append where item.count > 0:
                let first = item.firstIndex.rawValue
                region.remove(first...max(first, region.highest))
                region.highest = item.endIndex.rawValue - 1
                // Replay has refused a body that cannot be decompressed.
                guard let body = frame.body(of: item, at: offset) else { break }
                region.put(item, body)
            case .rewrite:
                region.highest = max(region.highest, item.endIndex.rawValue - 1)
                guard let body = frame.body(of: item, at: offset) else { break }
                region.put(item, body)
            case .reset, .tombstone:
                region.entries = [:]
                region.lowest = 1
            case .compact, .carry:
                let first = item.firstIndex.rawValue
                if first > region.lowest {
                    region.remove(region.lowest...(first - 1))
                    region.lowest = first
                }
            default: break
            }
            regions[item.region] = region
        }
    }
}
