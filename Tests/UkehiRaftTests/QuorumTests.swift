// The quorum's arithmetic against the definition of a majority.

import Testing
import UkehiBase

@testable import UkehiRaft

/// SplitMix64: the same numbers everywhere, so that a failing seed can be run again.
struct SeededRandom: RandomNumberGenerator {
    private var state: UInt64
    init(_ seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
        return value ^ (value >> 31)
    }
    mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }
    /// True `percent` times of a hundred.
    mutating func chance(_ percent: Int) -> Bool { below(100) < percent }
}

@Suite("Quorum: one and two majorities (Raft §5.2, thesis §4.3)")
struct QuorumTests {
    private func peers(_ random: inout SeededRandom, from low: Int, max count: Int) -> PeerSet {
        var set = PeerSet()
        for _ in 0..<random.below(count + 1) { set.insert(PeerID(UInt64(low + random.below(9)))) }
        return set
    }

    @Test("the committed index is the highest that a majority of each half holds")
    func committedAgainstDefinition() {
        var random = SeededRandom(1)
        for _ in 0..<20_000 {
            let incoming = peers(&random, from: 1, max: 7)
            let outgoing = random.chance(50) ? PeerSet() : peers(&random, from: 3, max: 7)
            var acked: [PeerID: LogIndex] = [:]
            for id in incoming.union(outgoing).ids where random.chance(80) {
                acked[id] = LogIndex(UInt64(random.below(6)))
            }
            let result = Quorum.committedIndex(incoming: incoming, outgoing: outgoing) {
                acked[$0]
            }
            func holds(_ index: UInt64, _ half: PeerSet) -> Bool {
                half.isEmpty
                    || half.ids.count { (acked[$0]?.rawValue ?? 0) >= index } * 2 > half.count
            }
            if incoming.isEmpty, outgoing.isEmpty {
                #expect(result.rawValue == .max)
                continue
            }
            let expected = (0...6).last {
                holds(UInt64($0), incoming) && holds(UInt64($0), outgoing)
            }
            #expect(result.rawValue == UInt64(expected ?? 0))
        }
    }

    @Test("a vote is decided exactly when no further answer can change it")
    func votesAgainstDefinition() {
        var random = SeededRandom(2)
        for _ in 0..<3_000 {
            let incoming = peers(&random, from: 1, max: 4)
            let outgoing = random.chance(50) ? PeerSet() : peers(&random, from: 3, max: 4)
            let all = incoming.union(outgoing).ids
            var votes: [PeerID: Bool] = [:]
            for id in all where random.chance(60) { votes[id] = random.chance(50) }
            let result = Quorum.result(incoming: incoming, outgoing: outgoing) { votes[$0] }

            func wins(_ votes: [PeerID: Bool]) -> Bool {
                [incoming, outgoing].allSatisfy { half in
                    half.isEmpty || half.ids.count { votes[$0] == true } * 2 > half.count
                }
            }
            // Every way the missing answers could fall out.
            let missing = all.filter { votes[$0] == nil }
            var canWin = false
            var canLose = false
            for pattern in 0..<(1 << missing.count) {
                var full = votes
                for (place, id) in missing.enumerated() { full[id] = pattern >> place & 1 == 1 }
                if wins(full) { canWin = true } else { canLose = true }
            }
            let expected: VoteResult = canWin && canLose ? .pending : canWin ? .won : .lost
            #expect(result == expected)
        }
    }

    @Test("a peer set is sorted and has each peer once")
    func peerSets() {
        var set = PeerSet([5, 1, 3, 5, 1].map { PeerID($0) })
        #expect(set.ids == [1, 3, 5].map { PeerID($0) })
        set.remove(PeerID(3))
        set.remove(PeerID(9))
        #expect(!set.contains(PeerID(3)) && set.contains(PeerID(5)) && !set.contains(PeerID(6)))
        #expect(set.differences(from: PeerSet([PeerID(5), PeerID(7)])) == 2)
        #expect(set.union(PeerSet([PeerID(2)])).ids == [1, 2, 5].map { PeerID($0) })
    }
}
