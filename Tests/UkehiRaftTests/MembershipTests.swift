// Configuration changes against a naive twin, and their bytes against anything.

import Testing
import UkehiBase

@testable import UkehiRaft

/// The same algebra, told as two sets of voters and a wish for each peer.
private struct NaiveMembership: Equatable {
    var voters: Set<UInt64> = []
    var outgoing: Set<UInt64> = []
    var learners: Set<UInt64> = []
    var autoLeave = false

    /// The learners that are not voters of the outgoing half.
    var activeLearners: Set<UInt64> { learners.subtracting(outgoing) }
    var stagedLearners: Set<UInt64> { learners.intersection(outgoing) }

    func applying(_ change: ConfigurationChange) -> NaiveMembership? {
        var next = self
        if change.transition == .automatic, change.steps.isEmpty {
            if outgoing.isEmpty { return nil }
            next.outgoing = []
            next.autoLeave = false
            return next
        }
        if !outgoing.isEmpty { return nil }
        let isJoint = change.transition != .automatic || change.steps.count > 1
        if isJoint {
            if voters.isEmpty { return nil }
            next.outgoing = voters
            next.autoLeave = change.transition != .jointExplicit
        }
        for step in change.steps where step.peer.rawValue != 0 {
            let id = step.peer.rawValue
            switch step.kind {
            case .addVoter:
                next.voters.insert(id)
                next.learners.remove(id)
            case .addLearner:
                next.voters.remove(id)
                next.learners.insert(id)
            case .remove:
                next.voters.remove(id)
                next.learners.remove(id)
            case .update: break
            }
        }
        if next.voters.isEmpty { return nil }
        if !isJoint, voters.symmetricDifference(next.voters).count > 1 { return nil }
        return next
    }
}

@Suite("Membership (Raft §6, thesis §4; RULES 9 to 15)")
struct MembershipTests {
    private func randomChange(_ random: inout SeededRandom) -> ConfigurationChange {
        let kinds: [ConfigurationChange.Step.Kind] = [.addVoter, .remove, .update, .addLearner]
        let transitions: [ConfigurationChange.Transition] = [
            .automatic, .jointImplicit, .jointExplicit,
        ]
        let steps = (0..<random.below(4)).map { _ in
            ConfigurationChange.Step(
                kinds[random.below(4)], PeerID(UInt64(random.below(6))))
        }
        return ConfigurationChange(steps, transition: transitions[random.below(3)])
    }

    @Test("any sequence of changes gives what the naive twin gives, refusals included")
    func changesAgainstTwin() {
        var random = SeededRandom(3)
        for _ in 0..<400 {
            var real = Configuration()
            var naive = NaiveMembership()
            for _ in 0..<40 {
                let change = randomChange(&random)
                let expected = naive.applying(change)
                let result = try? real.applying(change)
                #expect((result == nil) == (expected == nil), "\(change) on \(naive)")
                guard let result, let expected else { continue }
                real = result
                naive = expected
                #expect(Set(real.voters.ids.map(\.rawValue)) == naive.voters)
                #expect(Set(real.outgoing.ids.map(\.rawValue)) == naive.outgoing)
                #expect(Set(real.learners.ids.map(\.rawValue)) == naive.activeLearners)
                #expect(Set(real.learnersNext.ids.map(\.rawValue)) == naive.stagedLearners)
                #expect(real.autoLeave == naive.autoLeave)
                // What is stored is what is read back.
                #expect((try? Configuration(validating: real.state)) == real)
            }
        }
    }

    @Test("a simple change ends where a joint one would")
    func simpleEqualsJoint() throws {
        var random = SeededRandom(4)
        var compared = 0
        for _ in 0..<2_000 {
            let start = try Configuration(
                validating: ConfigurationState(voters: [1, 2, 3].map { PeerID($0) }))
            let steps = randomChange(&random).steps
            guard let simple = try? start.applyingSimply(steps) else { continue }
            let joint = try start.enteringJoint(steps, autoLeave: false).leavingJoint()
            #expect(simple == joint)
            compared += 1
        }
        #expect(compared > 300)
    }

    @Test("quorums of a configuration and the next one share a voter, at every step")
    func consecutiveQuorumsIntersect() throws {
        var random = SeededRandom(5)
        for _ in 0..<150 {
            var current = try Configuration(
                validating: ConfigurationState(voters: [1, 2, 3].map { PeerID($0) }))
            for _ in 0..<10 {
                guard let next = try? current.applying(randomChange(&random)) else { continue }
                let all = current.allVoters.union(next.allVoters).ids
                for pattern in 0..<(1 << all.count) {
                    let chosen = Set(
                        all.enumerated().filter { pattern >> $0.offset & 1 == 1 }.map(\.element))
                    func isQuorum(_ members: Configuration, _ set: Set<PeerID>) -> Bool {
                        Quorum.result(
                            incoming: members.voters, outgoing: members.outgoing
                        ) { set.contains($0) } == .won
                    }
                    let others = Set(all).subtracting(chosen)
                    #expect(!(isQuorum(current, chosen) && isQuorum(next, others)))
                }
                current = next
            }
        }
    }

    @Test("a change is read back as it was written")
    func codingRoundTrip() throws {
        var random = SeededRandom(6)
        for _ in 0..<500 {
            var change = randomChange(&random)
            if random.chance(50) { change.context = "new address" }
            #expect(try ConfigurationChange.decode(change.encoded()) == change)
        }
        #expect(ConfigurationChange.leaveJoint.encoded().isEmpty)
        #expect(
            ConfigurationChange([.init(.addLearner, PeerID(0x0102))]).encoded().array
                == [1, 0, 1, 0, 3, 2, 1, 0, 0, 0, 0, 0, 0])
    }

    @Test("bytes that are no change are refused, with a reason")
    func hostileBytes() {
        let good = ConfigurationChange(
            [.init(.addVoter, PeerID(7)), .init(.remove, PeerID(8))], transition: .jointExplicit
        ).encoded().array
        for length in 1..<good.count {
            #expect(throws: DecodeError.self) {
                try ConfigurationChange.decode(Bytes(Array(good[..<length])))
            }
        }
        for (place, value) in [(0, 9), (1, 3), (4, 4)] as [(Int, UInt8)] {
            var bad = good
            bad[place] = value
            #expect(throws: DecodeError.self) { try ConfigurationChange.decode(Bytes(bad)) }
        }
        #expect(throws: DecodeError.self) {
            try ConfigurationChange.decode(Bytes([1, 0, 0xff, 0xff]))
        }
        #expect(throws: DecodeError.self) {
            try ConfigurationChange.decode(
                Entry(term: Term(1), index: LogIndex(1), kind: .confChange, data: Bytes(good)))
        }
        var random = SeededRandom(7)
        for _ in 0..<5_000 {
            let bytes = (0..<random.below(40)).map { _ in UInt8(random.below(5)) }
            _ = try? ConfigurationChange.decode(Bytes(bytes))
        }
    }

    @Test("a stored membership that breaks a rule is refused")
    func impossibleStates() {
        func ids(_ values: [UInt64]) -> [PeerID] { values.map { PeerID($0) } }
        let cases: [(ConfigurationState, MembershipError)] = [
            (.init(learners: ids([1])), .noVoters),
            (.init(voters: ids([1]), learners: ids([1])), .inconsistent(PeerID(1))),
            (.init(voters: ids([1]), learnersNext: ids([2])), .inconsistent(PeerID(2))),
            (.init(voters: ids([1]), autoLeave: true), .notJoint),
            (.init(voters: ids([0, 1])), .invalidPeer(.none)),
            (.init(voters: [.localApply]), .invalidPeer(.localApply)),
            (
                .init(voters: ids([1]), learners: ids([2]), votersOutgoing: ids([2])),
                .inconsistent(PeerID(2))
            ),
        ]
        for (state, expected) in cases {
            #expect(throws: expected) { try Configuration(validating: state) }
        }
    }

    @Test("a learner taken out and brought back in one change is probed anew (RULES 16)")
    func rejoiningStartsOver() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3], learners: [4])
        try cluster.elect(1)
        let last = try cluster.propose("a", at: 1)
        try cluster.settle()
        #expect(cluster[1].progress(of: 4)?.match == last)

        let back = ConfigurationChange(
            [
                .init(.remove, PeerID(4)), .init(.addLearner, PeerID(4)),
                .init(.remove, PeerID(3)), .init(.addVoter, PeerID(3)),
            ], transition: .jointExplicit)
        try cluster[1].raft.proposeConfChange(back)
        try cluster.settle([1, 2, 3])
        #expect(cluster[1].configuration.isJoint)
        #expect(cluster[1].progress(of: 4)?.match == .zero)
        #expect(cluster[1].progress(of: 4)?.state == .probe)
        // An outgoing voter never left.
        #expect(cluster[1].progress(of: 3)?.match == cluster[1].lastIndex)
    }
}
