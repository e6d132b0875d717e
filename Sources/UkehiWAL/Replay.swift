// Reading a log's segments in order and applying every record: what recovery, audit and verify
// share. Read-only.
//
// Torn or corrupt (DESIGN.md section 5): in the newest segment, frames may be missing that were in
// flight at a crash, even before valid ones. Such a frame, and all behind it, was never
// acknowledged, unless some frame that can be read claims it as durable: then it was, and its loss
// is corruption. In a segment with a successor every frame up to the stated end was durable.

import UkehiBase
import UkehiEnvironment

/// Where reading stopped in one segment.
struct SegmentEnd {
    var offset: UInt64
    var lastLSN: UInt64
    var lastChecksum: UInt32
    /// The highest LSN of any readable frame header, discarded ones included.
    var highestLSN: UInt64
    /// Valid frame headers behind the end: in flight at a crash, discarded.
    var discardedFrames = 0
}

/// Applies the records of a log, frame by frame.
struct Replay {
    var regions = RegionTable()
    private var terms: ContiguousArray<TermRuns> = []
    private(set) var frames: UInt64 = 0
    private(set) var bodyBytes: UInt64 = 0

    init(isComplete: Bool) { regions.isComplete = isComplete }

    /// Reads one segment. `statedEnd` is where its successor says it ends; nil for the newest.
    mutating func read(
        _ segment: FoundSegment, successor: SegmentHeader?,
        onFrame: (FrameView) throws(WALError) -> Void = { _ in }
    ) throws(WALError) -> SegmentEnd {
        let header = segment.header
        let limit = successor?.predecessorEnd ?? segment.bytes
        let reader = FrameReader(
            file: segment.file, segment: segment.id, incarnation: header.incarnation, limit: limit)
        var end = SegmentEnd(
            offset: UInt64(SegmentFormat.firstFrameOffset), lastLSN: header.predecessorLastLSN,
            lastChecksum: header.predecessorChecksum, highestLSN: header.firstLSN - 1)
        var expected = header.firstLSN
        var isSecondLook = false
        reading: while true {
            let place = LogPosition(segment: segment.id, offset: end.offset)
            let defect: FrameDefect
            switch try attempt({ () throws(FileError) in try reader.frame(at: end.offset) }) {
            case .end: break reading
            case .invalid(let found): defect = found
            case .valid(let frame):
                if frame.header.lsn == expected, frame.header.previousChecksum == end.lastChecksum {
                    try apply(frame, at: place)
                    try onFrame(frame)
                    end.offset += UInt64(frame.header.frameBytes)
                    end.lastLSN = expected
                    end.lastChecksum = frame.header.checksum
                    end.highestLSN = expected
                    expected += 1
                    isSecondLook = false
                    continue
                }
                defect = FrameDefect(
                    reason: "frame \(frame.header.lsn) is there where \(expected) was due",
                    header: frame.header)
            }
            let evidence = try Evidence.gather(reader, from: end.offset, expected: expected)
            #if BugBank
                let isCorrupt =
                    PlantedBug.corruptionIsTornTail.isPlanted && successor == nil
                    ? false : successor != nil || evidence.claimed >= expected
            #else
                let isCorrupt = successor != nil || evidence.claimed >= expected
            #endif
            if isCorrupt {
                // Beside a running node the frame may have been written in between.
                if !isSecondLook {
                    isSecondLook = true
                    reader.forget()
                    continue
                }
                throw corruption(defect, at: place, lsn: expected, evidence)
            }
            end.highestLSN = max(end.highestLSN, evidence.highestLSN)
            end.discardedFrames = evidence.frames
            break
        }
        if let successor {
            guard end.offset == limit, end.lastLSN == successor.predecessorLastLSN,
                end.lastChecksum == successor.predecessorChecksum
            else {
                throw WALError(
                    .corrupted,
                    "The log was not opened: segment \(segment.id) ends with frame \(end.lastLSN), "
                        + "but its successor says frame \(successor.predecessorLastLSN). Restore "
                        + "the file, or restore the node from its peers.",
                    at: LogPosition(segment: segment.id, offset: end.offset))
            }
        }
        return end
    }

    // MARK: Records

    private mutating func apply(_ frame: FrameView, at place: LogPosition) throws(WALError) {
        var offset = frame.header.bodyStart
        for item in frame.items {
            let body = frame.body(at: offset, count: Int(item.bodyBytes))
            if let problem = apply(item, body, frame, offset) {
                throw WALError(
                    .corrupted,
                    "The log was not opened: frame \(frame.header.lsn) passes its checks, but gives "
                        + "\(item.region) \(problem). Restore the node from its peers.",
                    at: place)
            }
            offset += Int(item.bodyBytes)
        }
        frames += 1
        bodyBytes += UInt64(frame.header.bodyBytes)
    }

    private mutating func apply(
        _ item: BatchItem, _ body: UnsafeRawBufferPointer, _ frame: FrameView, _ offset: Int
    ) -> String? {
        let slot = regions.slot(of: item.region)
        if slot == terms.count { terms.append(TermRuns()) }
        // Where older segments are gone, the previous batch may be too; a wrong name is not a gap.
        let previous = regions[slot].staged.lastLSN
        if previous != 0 || regions.isComplete, item.previousLSN != previous {
            return "a batch after frame \(item.previousLSN), but its last one was in \(previous)"
        }
        switch item.kind {
        case .append where item.count > 0:
            terms[slot].truncate(from: item.firstIndex)
            let problem = forEachRecord(of: item, in: body) { position, record in
                terms[slot].append(item.firstIndex + UInt64(position), record.term)
            }
            if let problem { return problem }
        case .reset, .tombstone: terms[slot].removeAll()
        default: break
        }
        if let problem = regions[slot].staged.apply(item, body: body) { return problem }
        regions[slot].staged.lastLSN = frame.header.lsn
        regions[slot].becameDurable(
            item, segment: frame.header.segment, bodyOffset: Int(frame.header.offset) + offset)
        return nil
    }

    /// Checks that no region lacks its beginning, and ends the replay.
    mutating func finish() throws(WALError) {
        for slot in 0..<regions.count {
            var state = regions[slot].staged
            let held = regions[slot].index.first?.first ?? state.firstIndex.rawValue
            guard held <= state.firstIndex.rawValue else {
                throw WALError(
                    .corrupted,
                    "The log was not opened: entries \(state.firstIndex) to \(held - 1) of "
                        + "\(regions[slot].region) are in no segment. Restore the node from its "
                        + "peers.")
            }
            if !state.isEndKnown { state.lastIndex = state.firstIndex - 1 }
            state.isBaseKnown = true
            state.isEndKnown = true
            regions[slot].staged = state
            regions[slot].firstIndex = state.firstIndex
        }
        regions.isComplete = true
    }

    func termRuns(slot: Int) -> [TermRun] {
        terms[slot].from(
            regions[slot].staged.firstIndex, to: regions[slot].staged.lastIndex)
    }

    // MARK: What the frames behind an invalid one say

    private struct Evidence {
        var claimed: UInt64 = 0
        var highestLSN: UInt64 = 0
        var frames = 0

        static func gather(
            _ reader: FrameReader, from offset: UInt64, expected: UInt64
        ) throws(WALError) -> Evidence {
            var evidence = Evidence()
            try attempt { () throws(FileError) in
                try reader.headers(from: offset) { header in
                    evidence.highestLSN = max(evidence.highestLSN, header.lsn)
                    evidence.claimed = max(evidence.claimed, header.durableLSN)
                    if header.lsn >= expected { evidence.frames += 1 }
                }
            }
            return evidence
        }
    }

    private func corruption(
        _ defect: FrameDefect, at place: LogPosition, lsn: UInt64, _ evidence: Evidence
    ) -> WALError {
        var lost = "frame \(lsn)"
        if !defect.damaged.isEmpty {
            let regions = defect.damaged.prefix(8).map { item in
                item.count > 0
                    ? "entries \(item.firstIndex) to \(item.endIndex - 1) of \(item.region)"
                    : "a \(item.kind) record of \(item.region)"
            }
            let more = defect.damaged.count - regions.count
            lost += " with " + regions.joined(separator: ", ")
            if more > 0 { lost += " and \(more) more records" }
        }
        if evidence.frames > 0 { lost += ", and with it \(evidence.frames) frames behind it" }
        return WALError(
            .corrupted,
            "The log was not opened: \(defect.reason), but it was acknowledged as durable. Lost "
                + "would be \(lost). Nothing was changed; restore the file, or restore the node "
                + "from its peers.",
            at: place)
    }
}
