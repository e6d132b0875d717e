// Walking through a log in its own order, with a choice of what to see.

package import UkehiBase
import UkehiEnvironment

/// Which records of a log are asked for; what is nil is not looked at.
package struct LogFilter: Sendable {
    package var region: RegionID?
    /// Entries with these indexes, and other records that name one of them as their first.
    package var indexes: Range<UInt64>?
    /// Entries of this term; of records without entries, the hard state's or the last term.
    package var term: Term?
    /// Batches of these kinds, or with entries of ``entryKinds``: where either is given, either will do.
    package var recordKinds: Set<RecordKind>?
    package var entryKinds: Set<EntryKind>?
    package var lsns: Range<UInt64>?
    /// Decides last, by what an entry holds; records without entries are then left out.
    package var entry: (@Sendable (WALInspector.EntryInfo) -> Bool)?

    package init(region: RegionID? = nil) { self.region = region }

    /// Whether everything is wanted.
    package var isEmpty: Bool {
        region == nil && indexes == nil && term == nil && recordKinds == nil && entryKinds == nil
            && lsns == nil && entry == nil
    }

    /// What the directory can tell: whether any entry of `item`, or the item itself, may be meant.
    fileprivate func mayTake(_ item: BatchItem) -> Bool {
        if let region, item.region != region { return false }
        let isNamed =
            recordKinds.map { $0.contains(item.kind) } ?? (entryKinds == nil)
        guard item.holdsEntries else {
            if !isNamed || entry != nil { return false }
            if let indexes, !indexes.contains(item.firstIndex.rawValue) { return false }
            if let term, item.lastTerm != term, !item.hasHardState || item.hardState.term != term {
                return false
            }
            return true
        }
        if !isNamed, entryKinds == nil { return false }
        let range = item.firstIndex.rawValue..<item.endIndex.rawValue
        if let indexes, !indexes.overlaps(range) { return false }
        if let term, item.lastTerm < term { return false }
        return true
    }

    /// - Parameter kind: Of the record that holds the entry.
    fileprivate func takes(_ info: WALInspector.EntryInfo, in kind: RecordKind) -> Bool {
        if let indexes, !indexes.contains(info.index.rawValue) { return false }
        if let term, info.term != term { return false }
        let isNamed = recordKinds?.contains(kind) ?? false
        if let entryKinds, !isNamed, !entryKinds.contains(info.kind) { return false }
        return entry?(info) ?? true
    }
}

extension WALInspector {
    /// Visits segments, frames and entries in log order, superseded ones included, until `visit`
    /// returns false. With a filter, only what it takes: a frame with the batches that have
    /// something of it, and a segment before its first such frame.
    ///
    /// - Throws: ``WALError``, at the first thing that cannot be read and is no torn tail; with
    ///   ``WALError/Code/recycled`` when a running node removed the segment meanwhile.
    package func dump(
        _ filter: LogFilter = LogFilter(), _ visit: (Record) -> Bool
    ) throws(WALError) {
        let found = try open()
        var replay = Replay(isComplete: found.isComplete)
        var progress = ReadProgress(found, onProgress)
        for position in found.segments.indices {
            let segment = found.segments[position]
            let successor = found.successor(of: position)
            progress.begin(position)
            var untold: SegmentInfo? = SegmentInfo(segment, successor)
            if filter.isEmpty, let info = untold {
                guard visit(.segment(info)) else { return }
                untold = nil
            }
            do throws(WALError) {
                _ = try replay.read(segment, successor: successor) { (frame) throws(WALError) in
                    progress.read(frame)
                    guard visitFrame(frame, filter, &untold, visit) else {
                        throw WALError.stopVisiting
                    }
                }
            } catch {
                if error == .stopVisiting { return }
                throw isStillThere(segment) ? error : recycled(segment.id)
            }
        }
    }

    private func visitFrame(
        _ frame: FrameView, _ filter: LogFilter, _ untold: inout SegmentInfo?,
        _ visit: (Record) -> Bool
    ) -> Bool {
        let header = frame.header
        if let lsns = filter.lsns, !lsns.contains(header.lsn) { return true }
        var batches: [BatchItem] = []
        var entries: [EntryInfo] = []
        for (item, offset) in zip(frame.items, frame.bodyOffsets()) where filter.mayTake(item) {
            let before = entries.count
            if item.holdsEntries { collect(frame, item, offset, filter, &entries) }
            if item.count == 0 || entries.count > before { batches.append(item) }
        }
        // A claim has no batches: shown where everything is, or where its number is asked for.
        let isWanted = filter.isEmpty || filter.isOnlyLSNs
        guard !batches.isEmpty || isWanted else { return true }
        if let info = untold {
            untold = nil
            guard visit(.segment(info)) else { return false }
        }
        let info = FrameInfo(
            segment: header.segment, offset: header.offset, bytes: header.frameBytes,
            lsn: header.lsn, durableLSN: header.durableLSN, isClaim: header.isClaim,
            checksum: header.checksum, batches: batches)
        guard visit(.frame(info)) else { return false }
        return entries.allSatisfy { visit(.entry($0)) }
    }

    private func collect(
        _ frame: FrameView, _ item: BatchItem, _ offset: Int, _ filter: LogFilter,
        _ entries: inout [EntryInfo]
    ) {
        guard let raw = frame.body(of: item, at: offset) else { return }
        let body = Bytes(copying: raw)
        _ = forEachRecord(of: item, in: raw) { position, record in
            let data = body[record.offset..<record.offset + record.count]
            let inBody = item.isCompressed ? 0 : record.offset - Entry.recordHeaderBytes
            let info = EntryInfo(
                region: item.region, index: item.firstIndex + UInt64(position),
                term: record.term, kind: record.kind, bytes: record.count,
                checksum: CRC32C.checksum(data), lsn: frame.header.lsn,
                position: LogPosition(
                    segment: frame.header.segment,
                    offset: frame.header.offset + UInt64(offset + inBody)),
                data: data)
            if filter.takes(info, in: item.kind) { entries.append(info) }
        }
    }

    // MARK: Beside a running node

    /// Whether the file that was opened is still what its name says, in the same life.
    private func isStillThere(_ segment: FoundSegment) -> Bool {
        do throws(WALError) {
            let now = try open()
            return now.segments.contains {
                $0.id == segment.id && $0.header.incarnation == segment.header.incarnation
            }
        } catch {
            return true
        }
    }

    private func recycled(_ segment: UInt64) -> WALError {
        WALError(
            .recycled,
            "Segment \(segment) was recycled while it was read: the node needs it no more. Read "
                + "again.",
            at: LogPosition(segment: segment, offset: 0))
    }
}

extension LogFilter {
    fileprivate var isOnlyLSNs: Bool {
        var rest = self
        rest.lsns = nil
        return lsns != nil && rest.isEmpty
    }
}

extension WALError {
    /// Ends a visit from inside; never leaves this module.
    fileprivate static let stopVisiting = WALError(.failed, "The visitor wanted no more.")
}
