// The log against a naive one, and the races of asynchronous storage.

import Testing
import UkehiBase

@testable import UkehiRaft

@Suite("The log: positions, truncation, asynchronous writes (RULES 2, 4)")
struct LogTests {
    private func entries(_ terms: [UInt64], from first: UInt64) -> [Entry] {
        terms.enumerated().map { place, term in
            Entry(
                term: Term(term), index: LogIndex(first + UInt64(place)),
                data: Bytes("\(term).\(first + UInt64(place))"))
        }
    }

    @Test("any sequence of appends, conflicts, writes and commits gives what a plain array gives")
    func logAgainstArray() throws {
        var random = SeededRandom(11)
        for _ in 0..<300 {
            let disk = MemoryLogStorage()
            var log = try RaftLog.open(disk)
            var naive: [Entry] = []
            var term: UInt64 = 1
            /// Writes handed out and not yet done: entries, and the last (index, term) then.
            var writes: [(entries: [Entry], index: LogIndex, term: Term, at: UInt64)] = []
            for _ in 0..<60 {
                switch random.below(8) {
                case 0:
                    term += UInt64(random.below(3))
                case 1, 2:
                    let new = entries(
                        [UInt64](repeating: term, count: 1 + random.below(4)),
                        from: UInt64(naive.count) + 1)
                    log.append(new)
                    naive += new
                case 3:
                    // A leader of a new term overwrites a tail that is not committed.
                    let low = Int(log.committed.rawValue)
                    let keep = low + random.below(naive.count - low + 1)
                    term += 1
                    let new = entries(
                        (0..<(1 + random.below(3))).map { UInt64(term) + UInt64($0 / 2) },
                        from: UInt64(keep) + 1)
                    term = new.last?.term.rawValue ?? term
                    let previous = keep == 0 ? Term.zero : naive[keep - 1].term
                    let accepted = log.append(
                        new, after: LogIndex(UInt64(keep)), term: previous)
                    #expect(accepted)
                    naive = naive[..<keep] + new
                case 4:
                    // Repeated news changes nothing; what does not fit is refused.
                    guard !naive.isEmpty else { break }
                    let keep = random.below(naive.count)
                    let previous = keep == 0 ? Term.zero : naive[keep - 1].term
                    let again = Array(naive[keep..<(keep + random.below(naive.count - keep + 1))])
                    let accepted = log.append(
                        again, after: LogIndex(UInt64(keep)), term: previous)
                    #expect(accepted)
                    let refused = log.append(
                        [], after: LogIndex(UInt64(keep) + 1), term: Term(999))
                    #expect(!refused)
                case 5:
                    let new = log.takeNewEntries()
                    if !new.isEmpty {
                        writes.append((new, log.lastIndex, log.lastTerm, term))
                    }
                case 6:
                    guard !writes.isEmpty else { break }
                    let write = writes.removeFirst()
                    try disk.append(write.entries)
                    if write.at == term { log.stable(to: write.index, term: write.term) }
                default:
                    let room = min(naive.count, Int(log.unstableStart.rawValue) - 1)
                    log.commit(to: LogIndex(UInt64(random.below(room + 1))))
                    let batch = log.takeCommittedEntries(allowUnstable: false, maxBytes: .max)
                    let low = Int(log.applied.rawValue)
                    #expect(batch == Array(naive[low..<Int(log.applying.rawValue)]))
                    log.applied(to: log.applying, bytes: 0, maxBytes: .max)
                }
                #expect(log.lastIndex.rawValue == UInt64(naive.count))
                for entry in naive {
                    let found = log.term(at: entry.index)
                    #expect(found == entry.term)
                }
                let past = log.term(at: log.lastIndex + 1)
                #expect(past == nil)
                let from = UInt64(1 + random.below(naive.count + 1))
                let bound = UInt64(random.below(120))
                let read = try log.entries(from: LogIndex(from), maxBytes: bound)
                var expected: [Entry] = []
                var bytes: UInt64 = 0
                for entry in naive.dropFirst(Int(from) - 1) {
                    bytes += UInt64(entry.recordBytes)
                    if bytes > bound, !expected.isEmpty { break }
                    expected.append(entry)
                }
                // A storage may give less at the border to what it does not have yet.
                #expect(read == Array(expected.prefix(read.count)))
                #expect(read.isEmpty == expected.isEmpty)
            }
        }
    }

    @Test("a write that was overtaken does not make the new entries durable (ABA)")
    func overtakenWrite() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        func append(from leader: UInt64, term: UInt64, entryTerm: UInt64) throws {
            try cluster[1].raft.step(
                Message(
                    kind: .appendEntries, to: PeerID(1), from: PeerID(leader), term: Term(term),
                    entries: [
                        Entry(term: Term(entryTerm), index: LogIndex(1), data: Bytes("\(leader)"))
                    ]))
            cluster.collect(cluster[1])
        }
        // Leader 2's entry, leader 3's in its place, and leader 2's again: three writes in line.
        try append(from: 2, term: 1, entryTerm: 1)
        try append(from: 3, term: 2, entryTerm: 2)
        try append(from: 2, term: 3, entryTerm: 1)
        #expect(cluster[1].appends.count == 3)
        let persisted = { cluster[1].raft.persisted }
        try cluster.write(cluster[1])
        #expect(
            persisted() == .zero, "the disk will hold leader 3's entry before it holds this one")
        try cluster.write(cluster[1])
        #expect(persisted() == .zero)
        try cluster.write(cluster[1])
        #expect(persisted() == LogIndex(1))
    }

    @Test("a hard state write alone lets go of entries whose own news was ignored")
    func ignoredNewsComesAgain() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        try cluster[1].raft.step(
            Message(
                kind: .appendEntries, to: PeerID(1), from: PeerID(2), term: Term(1),
                entries: [Entry(term: Term(1), index: LogIndex(1))]))
        cluster.collect(cluster[1])
        try cluster[1].raft.step(
            Message(kind: .heartbeat, to: PeerID(1), from: PeerID(3), term: Term(2)))
        cluster.collect(cluster[1])
        try cluster.write(cluster[1])
        let before = cluster[1].raft.persisted
        #expect(before == .zero, "the answer is of term 1")
        try cluster.write(cluster[1])
        let after = cluster[1].raft.persisted
        #expect(after == LogIndex(1))
    }

    @Test("asynchronously, what is committed is applied only once it is durable here")
    func appliesOnlyDurable() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        try cluster[1].raft.step(
            Message(
                kind: .appendEntries, to: PeerID(1), from: PeerID(2), term: Term(1),
                commit: LogIndex(1), entries: [Entry(term: Term(1), index: LogIndex(1))]))
        cluster.collect(cluster[1])
        #expect(cluster[1].committed == LogIndex(1) && cluster[1].applies.isEmpty)
        try cluster.write(cluster[1])
        #expect(cluster[1].applies.count == 1)
    }

    @Test("committed entries come in pages, the next when the last is applied")
    func paginatedApply() throws {
        let cluster = try RaftCluster(voters: [1]) {
            $0.maxCommittedBytesPerReady = 2 * 16 + 20
        }
        try cluster.elect(1)
        for number in 0..<5 { try cluster.propose("\(number)", at: 1) }
        cluster.collect(cluster[1])
        while !cluster[1].appends.isEmpty { try cluster.write(cluster[1]) }
        var pages: [Int] = []
        while let page = cluster[1].applies.first {
            #expect(cluster[1].applies.count == 1)
            pages.append(page.entries.count)
            try cluster.apply(cluster[1])
        }
        #expect(pages == [3, 2])
        #expect(cluster[1].commands == ["0", "1", "2", "3", "4"])
    }

    @Test("entries that must be fetched hold up nothing else, and come when they are there")
    func fetching() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        try cluster.elect(1)
        for number in 0..<3 { try cluster.propose("\(number)", at: 1) }
        try cluster.settle([1, 2])
        cluster[1].disk.failingReads = 1
        cluster.tick(1)
        try cluster.settle()
        #expect(cluster[3].lastIndex == LogIndex(1), "they are being read")
        cluster[1].raft.storageFetched()
        try cluster.settle()
        #expect(cluster[3].lastIndex == LogIndex(4))
    }
}
