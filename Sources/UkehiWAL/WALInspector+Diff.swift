// Two nodes' logs, entry by entry: where they first differ, and whether that may be.
//
//   the same index and term, other bytes      never right (Raft, Log Matching)
//   other terms, both logs say "committed"    never right (Raft, State Machine Safety)
//   other terms, not committed on both        an old leader's tail: the next leader mends it
//   one log longer, or compacted further      not a difference

package import UkehiBase
import UkehiEnvironment

extension WALInspector {
    /// One entry as it is compared.
    package struct EntryDigest: Sendable, Hashable {
        package var term: Term
        package var kind: EntryKind
        package var bytes: Int
        /// CRC32C of the data.
        package var checksum: UInt32
    }

    /// One region in both logs.
    package struct RegionDiff: Sendable, Hashable {
        package enum Verdict: String, Sendable, Hashable {
            /// No entry that both have differs.
            case equal
            /// They differ where they may: the entry is not committed on both.
            case uncommitted
            /// They differ where they must not.
            case committed
        }
        package var region: RegionID
        package var verdict = Verdict.equal
        /// The indexes that both have; empty: none.
        package var overlap: Range<UInt64> = 0..<0
        /// The first index that differs.
        package var index: LogIndex?
        package var first: EntryDigest?
        package var second: EntryDigest?
        /// The commit indexes that the logs know of.
        package var commits: [LogIndex] = []
        package var lastIndexes: [LogIndex] = []
    }

    /// What ``diff(with:)`` found.
    package struct DiffReport: Sendable, Hashable {
        /// Regions of both logs, ascending.
        package var regions: [RegionDiff] = []
        package var onlyInFirst: [RegionID] = []
        package var onlyInSecond: [RegionID] = []
        package var comparedEntries: UInt64 = 0
        package var problem: WALError?
        /// Whether a committed entry differs.
        package var isBroken: Bool { regions.contains { $0.verdict == .committed } }
    }

    /// Compares this log with another node's.
    package func diff(with other: WALInspector) -> DiffReport {
        settled {
            var report = DiffReport()
            do throws(WALError) {
                try diff(other, &report)
            } catch {
                report.problem = error
            }
            return (report, report.problem)
        }
    }

    private func diff(_ other: WALInspector, _ report: inout DiffReport) throws(WALError) {
        let (mine, theirs) = (try replayed(), try other.replayed())
        for slot in 0..<mine.replay.regions.count {
            let log = mine.replay.regions[slot]
            guard log.staged.isHere else { continue }
            guard let match = theirs.replay.regions.find(log.region),
                theirs.replay.regions[match].staged.isHere
            else {
                report.onlyInFirst.append(log.region)
                continue
            }
            let theirLog = theirs.replay.regions[match]
            report.regions.append(
                try compare(
                    EntryCursor(self, mine.found, log), EntryCursor(other, theirs.found, theirLog),
                    &report.comparedEntries))
        }
        for slot in 0..<theirs.replay.regions.count {
            let log = theirs.replay.regions[slot]
            let match = mine.replay.regions.find(log.region)
            let isShared = match.map { mine.replay.regions[$0].staged.isHere } ?? false
            if log.staged.isHere, !isShared { report.onlyInSecond.append(log.region) }
        }
        report.regions.sort { $0.region < $1.region }
        report.onlyInFirst.sort()
        report.onlyInSecond.sort()
    }

    private func replayed() throws(WALError) -> (found: LogDirectory, replay: Replay) {
        do throws(WALError) { return try replay() } catch {
            var named = error
            named.message = "In \(directory): \(error.message)"
            throw named
        }
    }

    private func replay() throws(WALError) -> (found: LogDirectory, replay: Replay) {
        let found = try open()
        var replay = Replay(isComplete: found.isComplete)
        var progress = ReadProgress(found, onProgress)
        for position in found.segments.indices {
            progress.begin(position)
            _ = try replay.read(
                found.segments[position], successor: found.successor(of: position)
            ) { (frame) throws(WALError) in progress.read(frame) }
        }
        try replay.finish()
        return (found, replay)
    }

    private func compare(
        _ a: EntryCursor, _ b: EntryCursor, _ compared: inout UInt64
    ) throws(WALError) -> RegionDiff {
        var diff = RegionDiff(region: a.log.region)
        diff.commits = [a.log.staged.hardState.commit, b.log.staged.hardState.commit]
        diff.lastIndexes = [a.log.staged.lastIndex, b.log.staged.lastIndex]
        let lower = max(a.log.firstIndex, b.log.firstIndex).rawValue
        let upper = min(a.log.staged.lastIndex, b.log.staged.lastIndex).rawValue + 1
        guard lower < upper else { return diff }
        diff.overlap = lower..<upper
        a.skip(to: lower)
        b.skip(to: lower)
        for index in lower..<upper {
            let (x, y) = (try a.next(), try b.next())
            compared += 1
            guard x != y else { continue }
            diff.index = LogIndex(index)
            diff.first = x
            diff.second = y
            let isCommitted = diff.commits.allSatisfy { $0.rawValue >= index }
            diff.verdict = isCommitted || x?.term == y?.term ? .committed : .uncommitted
            return diff
        }
        return diff
    }
}

extension RegionState {
    /// Whether the region is on the node, as far as the log tells.
    fileprivate var isHere: Bool { tombstone == nil }
}

/// Steps through the entries of one region in index order, a body at a time.
private final class EntryCursor {
    let log: RegionLog
    private let inspector: WALInspector
    private let found: LogDirectory
    private let blocks: [IndexBlock]
    private var position = 0
    private var index: UInt64 = 0
    private var digests: [WALInspector.EntryDigest] = []

    init(_ inspector: WALInspector, _ found: LogDirectory, _ log: RegionLog) {
        self.inspector = inspector
        self.found = found
        self.log = log
        blocks = Array(log.index.live)
    }

    func skip(to index: UInt64) { self.index = index }

    /// The entry at the cursor, which moves on; nil if the log has none there.
    func next() throws(WALError) -> WALInspector.EntryDigest? {
        while position < blocks.count, blocks[position].end <= index {
            position += 1
            digests = []
        }
        guard position < blocks.count, blocks[position].first <= index else { return nil }
        let block = blocks[position]
        if digests.isEmpty {
            let body = try inspector.body(of: block, log.region, found)
            body.withUnsafeBytes { raw in
                _ = walkRecords(Int(block.count), in: raw) { _, record in
                    let data = UnsafeRawBufferPointer(
                        rebasing: raw[record.offset..<record.offset + record.count])
                    digests.append(
                        WALInspector.EntryDigest(
                            term: record.term, kind: record.kind, bytes: record.count,
                            checksum: CRC32C.checksum(data)))
                }
            }
        }
        let place = Int(index - block.first)
        index += 1
        return place < digests.count ? digests[place] : nil
    }
}
