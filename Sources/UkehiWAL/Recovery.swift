// Opening a log: what is in its directory becomes regions and an index, and a new segment.
//
//   lock -> names synced -> mark, headers, chain -> segments read side by side (SegmentReading.swift)
//        -> replay, oldest segment first -> newest segment synced
//        -> a new segment that states its end, short on a full volume -> mark raised
//
// Nothing is changed before everything was read and found sound, but for removing segments that
// were removed already. A recovered log never appends to an old segment. Recovery may be cut
// anywhere and run again: until the new segment's name is durable, the old state is what is read.

package import UkehiBase
import UkehiEnvironment

/// One region as the log has it at start.
package struct RecoveredRegion: Sendable, Hashable {
    package var region: RegionID
    /// What was given to ``LogBatch/birth(region:payload:hardState:)``.
    package var birth: Bytes?
    package var hardState: HardState
    /// Invariant: 1 <= firstIndex <= lastIndex + 1.
    package var firstIndex: LogIndex
    package var lastIndex: LogIndex
    /// The term of the entry at `firstIndex - 1`.
    package var compactedTerm: Term
    /// Covers `firstIndex...lastIndex`.
    package var terms: [TermRun]
    /// What was given to ``LogBatch/tombstone(region:payload:)``, if nothing came after it.
    package var tombstone: Bytes?
    /// Entries that cannot be read, ascending, where ``DamagePolicy/repair`` let the log open
    /// nevertheless: a peer has them.
    package var damaged: [DamagedEntries] = []
}

/// What opening found, before anything runs.
struct RecoveredLog {
    var regions: RegionTable
    var recovered: [RecoveredRegion]
    var end: LogEnd
    var mark: LogMark
    var markFile: any File
    var lock: any FileLock
    /// Old segments, oldest first, and the new one.
    var sealed: [SegmentFile]
    var active: SegmentFile
    var reserve: SegmentReserve
    /// Why the active segment is a short one.
    var shortage: FileError?
    /// Of the segment that was the newest and has no footer yet.
    var footer: SealedFooter?
}

/// What lies behind a segment's end, other than its footer: it is never read again.
private struct SegmentTail {
    var segment: SegmentFile
    var from: UInt64
    var isCut: Bool { segment.preparedTo <= from }

    /// Gives its space back, for good.
    func cut() throws(FileError) {
        try segment.file.truncate(to: from)
        try segment.file.sync()
        segment.preparedTo = from
    }
}

enum Recovery {
    static func run(
        _ store: SegmentStore, random: any RandomSource, parallel: any ParallelRunner
    ) throws(WALError) -> RecoveredLog {
        let fileSystem = store.fileSystem
        let lock = try attempt { () throws(FileError) in
            try fileSystem.createDirectory(store.directory)
            try fileSystem.syncDirectory(LogNames.parent(store.directory))
            return try fileSystem.lock(store.path(LogNames.lock))
        }
        do throws(WALError) {
            return try run(store, random: random, parallel: parallel, lock: lock)
        } catch {
            lock.release()
            throw error
        }
    }

    private static func run(
        _ store: SegmentStore, random: any RandomSource, parallel: any ParallelRunner,
        lock: any FileLock
    ) throws(WALError) -> RecoveredLog {
        // A killed process leaves names and a mark that can be read but need not be durable. They
        // are made so before anything relies on them: a segment removed on the word of a mark that
        // a power cut takes back would be missing.
        try attempt { () throws(FileError) in
            try store.fileSystem.syncDirectory(store.directory)
            let mark = store.path(LogNames.mark)
            if store.fileSystem.exists(mark) {
                let file = try store.fileSystem.open(mark, .readWrite)
                defer { file.close() }
                try file.sync()
            }
        }
        let found = try LogDirectory.read(
            store.fileSystem, store.directory, forWriting: true)

        let replay = ShardedReplay(isComplete: found.isComplete, parallel)
        var end = LogEnd()
        var lastRecords: FooterBuffer?
        var sealed: [SegmentFile] = []
        var damaged: [UInt64: Set<UInt64>] = [:]
        var tails: [SegmentTail] = []
        try SegmentReading.forEach(
            in: found, options: store.options, parallel
        ) { (segments, readings) throws(WALError) in
            try replay.apply(readings)
            for (segment, reading) in zip(segments, readings) {
                end.lastLSN = reading.end.lastLSN
                end.lastChecksum = reading.end.lastChecksum
                // A frame that was lost whole may have had any of the numbers in flight.
                end.nextLSN =
                    reading.end.highestLSN + UInt64(WALLimits.maxGroupsInFlight) + 1
                end.offset = reading.end.offset
                if !reading.damaged.isEmpty { damaged[segment.id] = reading.damaged }
                lastRecords = reading.records
                let file = SegmentFile(
                    file: segment.file, header: segment.header, preparedTo: segment.bytes,
                    end: reading.end.offset)
                sealed.append(file)
                if !reading.isFooter, segment.bytes > reading.end.offset {
                    tails.append(SegmentTail(segment: file, from: reading.end.offset))
                }
            }
        }
        let (table, recovered) = try replay.finish(damaged: damaged)

        let started = try startSegment(store, random, found, end, tails)
        return RecoveredLog(
            regions: table, recovered: recovered, end: end, mark: started.mark,
            markFile: started.markFile, lock: lock, sealed: sealed, active: started.active,
            reserve: started.reserve, shortage: started.shortage,
            // One would take what the reserve left.
            footer: started.shortage == nil
                ? footer(of: sealed.last, lastRecords, end, store.options) : nil)
    }

    /// What is to be written behind the segment that was the newest.
    private static func footer(
        of segment: SegmentFile?, _ records: FooterBuffer?, _ end: LogEnd, _ options: WALOptions
    ) -> SealedFooter? {
        guard options.writesFooters, let segment, let records, let offset = segment.end,
            records.fileBytes <= FooterFormat.limit(capacity: segment.header.capacity)
        else { return nil }
        return SealedFooter(
            segment: segment, records: records, offset: offset, lastLSN: end.lastLSN,
            lastChecksum: end.lastChecksum)
    }

    private static func startSegment(
        _ store: SegmentStore, _ random: any RandomSource, _ found: LogDirectory, _ end: LogEnd,
        _ tails: [SegmentTail]
    ) throws(WALError) -> StartedSegment {
        let newest = found.segments.last
        let id = (newest?.id ?? 0) + 1
        guard id <= UInt64(UInt32.max) else {
            throw WALError(
                .corrupted,
                "The log was not opened: segment \(id - 1) has the last id there is, which no log "
                    + "comes near. Restore the directory, or restore the node from its peers.",
                at: LogPosition(segment: id - 1, offset: 0))
        }
        let header = SegmentHeader(
            log: 0, segment: id, incarnation: random.next(), firstLSN: end.nextLSN,
            capacity: UInt64(store.options.segmentBytes), isAllocated: false,
            mayHoldCompressed: store.options.compressionThresholdBytes != nil,
            predecessor: id - 1, predecessorEnd: end.offset,
            predecessorLastLSN: end.lastLSN, predecessorChecksum: end.lastChecksum)
        return try attempt { () throws(FileError) in
            for removed in found.removable { try store.remove(segment: removed) }
            // Frames of a process that was killed may be in the page cache only. They are part of
            // the log from now on, so they must be durable before anything builds on them.
            #if BugBank
                let trustsCache = PlantedBug.recoveryTrustsPageCache.isPlanted
            #else
                let trustsCache = false
            #endif
            if !trustsCache { try newest?.file.sync() }
            var (mark, markFile) = try openMark(store, random, found.mark)
            var reserve = try store.findReserve()
            let first = try store.createFirst(orFrom: &reserve) { () throws(FileError) in
                // A start that was cut left them; their successors state where they begin.
                var isAny = false
                for tail in tails where tail.segment.header.segment != newest?.id && !tail.isCut {
                    try tail.cut()
                    isAny = true
                }
                return isAny
            }
            let active = first.file
            if store.options.zeroesAhead {
                active.preparedTo = try store.zero(active, from: 0)
                // A log without room for another segment has prepared all of its last one.
                while first.shortage != nil, !active.isPrepared {
                    active.preparedTo = try store.zero(active, from: active.preparedTo)
                }
            }
            var named = header
            named.log = mark.log
            active.header = try store.activate(active, header: named)
            try mark.advance(oldest: mark.oldest, newest: id, in: markFile)
            if let tail = tails.last, tail.segment.header.segment == newest?.id,
                !store.options.rarePaths.takes(.oldTailKept)
            {
                try tail.cut()
            }
            // Whatever ends this process next, the one after it has room to start.
            if reserve == .missing { reserve = try store.makeReserve() }
            return StartedSegment(
                mark: mark, markFile: markFile, active: active, reserve: reserve,
                shortage: first.shortage)
        }
    }

    private struct StartedSegment {
        var mark: LogMark
        var markFile: any File
        var active: SegmentFile
        var reserve: SegmentReserve
        var shortage: FileError?
    }

    private static func openMark(
        _ store: SegmentStore, _ random: any RandomSource, _ found: LogMark?
    ) throws(FileError) -> (LogMark, any File) {
        let path = store.path(LogNames.mark)
        if let found { return (found, try store.fileSystem.open(path, .readWrite)) }
        // An unreadable mark without any segment is what a crash in the first start leaves.
        if store.fileSystem.exists(path) { try store.fileSystem.remove(path) }
        let file = try store.fileSystem.open(path, .createNew)
        var mark = LogMark(log: random.next())
        try mark.advance(oldest: 1, newest: 0, in: file)
        try store.fileSystem.syncDirectory(store.directory)
        return (mark, file)
    }
}
