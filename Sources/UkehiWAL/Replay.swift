// Applying a log's records in order: what recovery, audit and verify share.
//
// A record comes with its frame as it was read (SegmentScan.swift), or out of a footer
// (FooterReader.swift); what it makes of its region is the same.

import UkehiBase

/// Applies the records of a log, frame by frame.
struct Replay {
    let regions = RegionTable()
    private var terms: ContiguousArray<TermRuns> = []

    init(isComplete: Bool) { regions.isComplete = isComplete }

    /// Reads one segment and applies it. The successor says where it ends; nil for the newest.
    mutating func read(
        _ segment: FoundSegment, successor: SegmentHeader?,
        onFrame: (FrameView) throws(WALError) -> Void = { _ in }
    ) throws(WALError) -> SegmentEnd {
        try SegmentScan.run(segment, successor: successor) { (frame, place) throws(WALError) in
            try apply(frame, at: place)
            try onFrame(frame)
        }
    }

    // MARK: Records

    private mutating func apply(_ frame: FrameView, at place: LogPosition) throws(WALError) {
        var offset = frame.header.bodyStart
        for item in frame.items {
            let problem =
                frame.body(of: item, at: offset).map {
                    apply(
                        item, .body($0), frame.header,
                        bodyOffset: Int(frame.header.offset) + offset)
                } ?? BatchItem.isNotDecompressed
            if let problem {
                throw Replay.corruption(
                    lsn: frame.header.lsn, "\(item.region) \(problem)", at: place)
            }
            offset += Int(item.bodyBytes)
        }
    }

    /// Applies what one segment was found to hold of the regions of a share.
    ///
    /// - Parameter damaged: Where bodies begin that cannot be read.
    mutating func apply(
        _ footer: FooterBuffer, damaged: Set<UInt64> = [], share: RegionShare
    ) throws(WALError) {
        var cursor = FooterCursor(footer.records)
        while let record = cursor.next() {
            let header = record.header
            var offset = Int(header.offset) + header.bodyStart
            var details = DetailCursor(record.details)
            for position in 0..<header.itemCount {
                // Checked when the records were read.
                guard let item = record.item(at: position) else { break }
                let detail = details.detail(of: position)
                defer { offset += Int(item.bodyBytes) }
                guard share.contains(item.region) else { continue }
                let place = LogPosition(segment: header.segment, offset: header.offset)
                // A record without a body begins where the next one's body does.
                let isDamaged =
                    !damaged.isEmpty && item.bodyBytes > 0 && damaged.contains(UInt64(offset))
                if isDamaged { try requireKnownTerms(of: item, at: place) }
                if let problem = apply(
                    item, isDamaged ? .unreadable : .detail(detail), header, bodyOffset: offset)
                {
                    throw Replay.corruption(
                        lsn: header.lsn, "\(item.region) \(problem)", at: place)
                }
            }
        }
    }

    /// A frame that passes its checks and says what cannot be.
    static func corruption(lsn: UInt64, _ what: String, at place: LogPosition) -> WALError {
        WALError(
            .corrupted,
            "The log was not opened: frame \(lsn) passes its checks, but gives \(what). Restore the "
                + "node from its peers.",
            at: place)
    }

    /// What a record has beside its directory item.
    fileprivate enum Content {
        case body(UnsafeRawBufferPointer)
        /// As in a footer: nil where the item says everything.
        case detail(UnsafeRawBufferPointer?)
        /// An append whose body is damaged: its item has to say everything.
        case unreadable

        /// A logical record's body.
        var payload: UnsafeRawBufferPointer {
            switch self {
            case .body(let bytes): bytes
            case .detail(let bytes): bytes ?? UnsafeRawBufferPointer(start: nil, count: 0)
            case .unreadable: UnsafeRawBufferPointer(start: nil, count: 0)
            }
        }
    }

    private mutating func apply(
        _ item: BatchItem, _ content: Content, _ header: FrameHeader, bodyOffset: Int
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
            if let problem = terms[slot].append(item, content) { return problem }
        case .rewrite:
            guard regions[slot].index.canReplace(upTo: item.endIndex.rawValue) else {
                return "entries again up to \(item.endIndex - 1), within a batch"
            }
            // Whoever fills a gap knows the terms in it.
            let isFollowed = regions[slot].index.position(of: item.endIndex.rawValue) != nil
            if let problem = terms[slot].rewrite(item, content, isFollowed: isFollowed) {
                return problem
            }
        case .reset, .tombstone: terms[slot].removeAll()
        default: break
        }
        if let problem = regions[slot].staged.apply(item, body: content.payload) { return problem }
        regions[slot].staged.lastLSN = header.lsn
        regions[slot].becameDurable(item, segment: header.segment, bodyOffset: bodyOffset)
        return nil
    }

    /// Throws unless the terms of damaged entries are known from its item: all are the last
    /// one's if the entry before has it, too, since terms never fall.
    private func requireKnownTerms(of item: BatchItem, at place: LogPosition) throws(WALError) {
        // Bodies of several terms are not compressed (``LogBatch``).
        if item.count == 1 || item.isCompressed { return }
        if let slot = regions.find(item.region) {
            let state = regions[slot].staged
            let before =
                item.firstIndex == state.firstIndex
                ? state.compactedTerm : terms[slot].term(before: item.firstIndex)
            if before == item.lastTerm { return }
        }
        throw WALError(
            .corrupted,
            "The log was not opened: entries \(item.firstIndex) to \(item.endIndex - 1) of "
                + "\(item.region) cannot be read and may be of several terms, so that this node "
                + "could not vote truthfully. Nothing was changed; restore the file, or restore "
                + "the node from its peers.",
            at: place)
    }

    /// Checks that no region lacks its beginning, and ends the replay.
    mutating func finish() throws(WALError) {
        for slot in 0..<regions.count {
            var state = regions[slot].staged
            if !state.isEndKnown {
                // Rewrites tell the end of a log whose appends are gone.
                let end = regions[slot].index.last?.end ?? 0
                state.lastIndex = LogIndex(max(state.firstIndex.rawValue, end)) - 1
            }
            let first = state.firstIndex.rawValue
            let held = first..<max(first, state.lastIndex.rawValue + 1)
            guard regions[slot].index.covers(held) else {
                throw WALError(
                    .corrupted,
                    "The log was not opened: some of the entries \(state.firstIndex) to "
                        + "\(state.lastIndex) of \(regions[slot].region) are in no segment. Restore "
                        + "the node from its peers.")
            }
            state.isBaseKnown = true
            state.isEndKnown = true
            regions[slot].staged = state
            regions[slot].index.firstIndex = state.firstIndex
        }
        regions.isComplete = true
    }

    func termRuns(slot: Int) -> [TermRun] {
        terms[slot].from(
            regions[slot].staged.firstIndex, to: regions[slot].staged.lastIndex)
    }
}

extension TermRuns {
    /// The terms of entries that are there already, or were in segments that are gone; the reason when
    /// the body is not what the item says. What is around them stays.
    fileprivate mutating func rewrite(
        _ item: BatchItem, _ content: Replay.Content, isFollowed: Bool
    ) -> String? {
        var some = TermRuns()
        if let problem = some.append(item, content) { return problem }
        replace(item.firstIndex..<item.endIndex, with: some, isFollowed: isFollowed)
        return nil
    }

    /// The terms of an append's entries, which supersede what is there; the reason when its body is
    /// not what the item says.
    fileprivate mutating func append(_ item: BatchItem, _ content: Replay.Content) -> String? {
        truncate(from: item.firstIndex)
        switch content {
        case .body(let body):
            return forEachRecord(of: item, in: body) { position, record in
                append(item.firstIndex + UInt64(position), record.term)
            }
        case .detail(nil), .unreadable:
            append(item.firstIndex, item.lastTerm)
        case .detail(let runs?):
            guard let base = runs.baseAddress else { return nil }
            for at in stride(from: 0, to: runs.count, by: FooterFormat.runBytes) {
                let run = TermRun(run: base + at)
                append(run.start, run.term)
            }
        }
        return nil
    }
}
