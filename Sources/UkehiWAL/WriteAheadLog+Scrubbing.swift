// The background check of sealed segments: opening believed their footers, so that somebody has to
// read their bodies before they are needed.
//
//   round   every sealed segment, oldest first, frame by frame, as a full scan reads it
//   step    what the rate allows, at most a chunk; then the preparer has other things to do
//
// Damage is told once, with its entries, and stops nothing: a body that is rotten here is whole on
// other nodes. What a step reads may meanwhile be freed and begin its next life, so that damage
// counts only if it is there at a second look, in a segment that is still the log's.

import UkehiBase
import UkehiEnvironment

extension WriteAheadLog {
    /// Checks the next frames of sealed segments, as far as the rate allows.
    ///
    /// Called by the preparer, or, without threads, by the driver.
    ///
    /// - Returns: Nanoseconds until there may be more to do; nil when the check is off.
    @discardableResult
    package func scrubStep() -> UInt64? {
        guard options.scrubBytesPerSecond > 0 else { return nil }
        let now = clock.now()
        scrubber.pace.advance(to: now)
        guard scrubber.pace.hasLeft else { return scrubber.pace.nanosecondsToBurst }
        guard let sealed = segmentToScrub(at: now) else {
            return max(scrubber.nextRound - now, WALLimits.scrubRestNanoseconds)
        }
        var found: [LogDamage] = []
        if var cursor = scrubber.cursor {
            found = scrub(sealed.segment, until: sealed.end, &cursor)
            let isDone = cursor.offset >= sealed.end
            scrubber.cursor = isDone ? nil : cursor
            if isDone { scrubber.next = cursor.segment + 1 }
        }
        monitor.withLock {
            counters.scrubbedBytes += scrubber.unreportedBytes
            counters.damagedRanges += found.reduce(0) { $0 + UInt64(max($1.entries.count, 1)) }
        }
        scrubber.unreportedBytes = 0
        if let tell = damagedHandler { for damage in found { tell(damage) } }
        return scrubber.pace.nanosecondsToBurst
    }

    /// The segment in which the check goes on, with its end; nil between two rounds.
    private func segmentToScrub(
        at now: MonotonicTime
    ) -> (segment: SegmentFile, end: UInt64)? {
        monitor.withLock {
            if scrubber.next == nil {
                guard now >= scrubber.nextRound || options.rarePaths.takes(.scrubbedAgain),
                    let newest = segments.last(where: { $0.end != nil })
                else { return nil }
                scrubber.lastOfRound = newest.header.segment
                scrubber.nextRound = now + WALLimits.scrubRoundNanoseconds
            }
            let from = scrubber.next ?? 0
            // What was freed meanwhile is passed over.
            guard let segment = segments.first(where: { $0.header.segment >= from }),
                segment.header.segment <= scrubber.lastOfRound, let end = segment.end
            else {
                counters.scrubRounds += 1
                scrubber.endRound(oldest: segments.first?.header.segment ?? 0)
                return nil
            }
            scrubber.next = segment.header.segment
            if scrubber.cursor?.segment != segment.header.segment {
                scrubber.cursor = Scrubber.Cursor(segment.file, segment.header, end: end)
            }
            return (segment, end)
        }
    }

    /// Checks frames from the cursor on; while this holds the segment its file begins no other life.
    private func scrub(
        _ segment: SegmentFile, until end: UInt64, _ cursor: inout Scrubber.Cursor
    ) -> [LogDamage] {
        var found: [LogDamage] = []
        while cursor.offset < end, scrubber.pace.hasLeft {
            let start = cursor.offset
            var problem = cursor.check()
            if problem != nil {
                cursor.reader.forget()
                problem = cursor.check()
            }
            if let problem {
                cursor.pass(problem, until: end)
                if let damage = damage(problem, segment, from: start, to: cursor.offset) {
                    found.append(damage)
                }
            }
            scrubber.pace.spend(cursor.offset - start)
            scrubber.unreportedBytes += cursor.offset - start
        }
        return found
    }

    /// What is told of a problem; nil if it was told before, or the segment is the log's no more.
    private func damage(
        _ problem: ScrubProblem, _ segment: SegmentFile, from start: UInt64, to end: UInt64
    ) -> LogDamage? {
        let place = LogPosition(segment: segment.header.segment, offset: start)
        let isLive = monitor.withLock { segments.contains { $0 === segment } }
        guard isLive, scrubber.isNew(place) else { return nil }
        switch problem {
        case .unreadable(let error):
            var failure = WALError(error, effect: "A sealed segment was not checked from here on")
            failure.position = place
            return LogDamage(error: failure, entries: indexed(place.segment, start..<end))
        case .damaged(let defect):
            // Of a body that was superseded nothing is needed, though a later one may begin with the
            // same entry.
            let entries = indexed(place.segment, start..<end).filter { entries in
                defect.damaged.isEmpty
                    || defect.damaged.contains {
                        $0.region == entries.region && $0.firstIndex == entries.first
                    }
            }
            let named = entries.prefix(8).map { "\($0.first) to \($0.last) of \($0.region)" }
            let more = entries.count > 8 ? " and \(entries.count - 8) more" : ""
            let what =
                entries.isEmpty ? "no entries" : "entries " + named.joined(separator: ", ") + more
            return LogDamage(
                error: WALError(
                    .corrupted,
                    "A sealed segment is damaged: \(defect.reason); it holds \(what). They must come "
                        + "from a peer; check the disk.",
                    at: place),
                entries: entries)
        }
    }

    /// The entries that the index has in a part of a segment, ascending by region.
    private func indexed(_ segment: UInt64, _ range: Range<UInt64>) -> [DamagedEntries] {
        monitor.withLock {
            let regions = scheduler.regions
            return (0..<regions.count).map { regions[$0] }.flatMap { log in
                log.index.live.filter {
                    UInt64($0.segment) == segment && range.contains(UInt64($0.bodyOffset))
                }.map {
                    DamagedEntries(
                        region: log.region, first: LogIndex($0.first), last: LogIndex($0.end - 1))
                }
            }.sorted { ($0.region, $0.first) < ($1.region, $1.first) }
        }
    }
}

/// Why a frame did not pass.
private enum ScrubProblem {
    case damaged(FrameDefect)
    case unreadable(FileError)
}

extension Scrubber.Cursor {
    fileprivate init(_ file: any File, _ header: SegmentHeader, end: UInt64) {
        self.init(
            segment: header.segment,
            reader: FrameReader(file: file, header: header, limit: end),
            offset: UInt64(SegmentFormat.firstFrameOffset), lsn: header.firstLSN,
            previousChecksum: header.predecessorChecksum)
    }

    /// Checks the next frame and goes past it if it is sound; what is wrong otherwise.
    fileprivate mutating func check() -> ScrubProblem? {
        do throws(FileError) {
            switch try reader.frame(at: offset) {
            case .end: return .damaged(FrameDefect(reason: "the segment ends early"))
            case .invalid(let defect), .rotten(_, let defect): return .damaged(defect)
            case .valid(let frame):
                guard frame.header.lsn == lsn, frame.header.previousChecksum == previousChecksum
                else {
                    return .damaged(
                        FrameDefect(
                            reason: "frame \(frame.header.lsn) is there where \(lsn) was due",
                            header: frame.header))
                }
                if let defect = Self.brokenRecords(of: frame) { return .damaged(defect) }
                go(past: frame.header)
                return nil
            }
        } catch {
            return .unreadable(error)
        }
    }

    /// Bodies pass their checksums, but do not hold what their items say.
    private static func brokenRecords(of frame: FrameView) -> FrameDefect? {
        var at = frame.header.bodyStart
        for item in frame.items {
            defer { at += Int(item.bodyBytes) }
            guard item.holdsEntries else { continue }
            let reason =
                frame.body(of: item, at: at).map { forEachRecord(of: item, in: $0) { _, _ in } }
                ?? BatchItem.isNotDecompressed
            if let reason {
                return FrameDefect(reason: reason, header: frame.header, damaged: [item])
            }
        }
        return nil
    }

    private mutating func go(past header: FrameHeader) {
        offset = header.offset + UInt64(header.frameBytes)
        lsn = header.lsn + 1
        previousChecksum = header.checksum
    }

    /// Goes on behind a frame that did not pass: behind its end if that is known, else at the next
    /// frame that can be found, else at the segment's end.
    fileprivate mutating func pass(_ problem: ScrubProblem, until end: UInt64) {
        if case .damaged(let defect) = problem {
            if let header = defect.header,
                UInt64(header.frameBytes) <= end - offset
            {
                return go(past: header)
            }
            let next = try? reader.firstHeader(from: offset + UInt64(FrameFormat.blockBytes))
            if let next {
                offset = next.offset
                lsn = next.lsn
                previousChecksum = next.previousChecksum
                return
            }
        }
        offset = end
    }
}
