// What a warm core allocates, counted; and what an idle one holds.

import Testing
import UkehiBase
import _CAllocationCounter

@testable import UkehiRaft

@Suite("Allocations of the core")
struct CoreAllocationTests {
    /// A leader of three whose disk is always done, driven without a network.
    private final class Leader {
        var node: RawNode
        let storage: MemoryLogStorage
        var ready = Ready()

        init() throws {
            storage = MemoryLogStorage(
                configuration: ConfigurationState(voters: [PeerID(1), PeerID(2), PeerID(3)]))
            var settings = RaftConfiguration(id: PeerID(1), electionTicks: 10, heartbeatTicks: 1)
            settings.checkQuorum = true
            settings.preVote = true
            node = try RawNode(configuration: settings, storage: storage)
            node.campaign()
            try drain()
            try answer(.requestPreVoteResponse, term: 1)
            try answer(.requestVoteResponse, term: 1)
            let isLeader = node.isLeader
            #expect(isLeader)
            try acknowledge()
        }

        func answer(_ kind: MessageKind, term: UInt64, index: LogIndex = .zero) throws {
            for peer in 2...3 as ClosedRange<UInt64> {
                try node.step(
                    Message(
                        kind: kind, to: PeerID(1), from: PeerID(peer), term: Term(term),
                        index: index))
            }
            try drain()
        }
        func acknowledge() throws {
            try answer(.appendEntriesResponse, term: 1, index: node.lastIndex)
        }
        func drain() throws {
            while node.hasReady {
                node.takeReady(into: &ready)
                if let state = ready.hardState { storage.setHardState(state) }
                try storage.append(ready.entries)
                node.advance()
            }
        }
    }

    private func allocations(_ times: Int, _ body: () throws -> Void) rethrows -> UInt64 {
        for _ in 0..<times { try body() }
        let before = ukehi_allocation_count()
        for _ in 0..<times { try body() }
        return ukehi_allocation_count() - before
    }

    /// Unoptimised code allocates for closures and temporaries that optimised code does not have.
    @Test(
        "ticks, heartbeats and their answers, and append answers allocate nothing",
        .enabled(if: isOptimised))
    func steps() throws {
        guard ukehi_counts_allocations() == 1 else { return }
        let leader = try Leader()
        let ticks = try allocations(1000) {
            leader.node.tick()
            try leader.drain()
            try leader.answer(.heartbeatResponse, term: 1)
        }
        #expect(ticks == 0)
        let answers = try allocations(1000) { try leader.acknowledge() }
        #expect(answers == 0)

        var settings = RaftConfiguration(id: PeerID(2), electionTicks: 10, heartbeatTicks: 1)
        settings.checkQuorum = true
        var follower = try RawNode(
            configuration: settings,
            storage: MemoryLogStorage(
                configuration: ConfigurationState(voters: [PeerID(1), PeerID(2), PeerID(3)])))
        var ready = Ready()
        func heartbeat(_ follower: inout RawNode) throws {
            try follower.step(
                Message(kind: .heartbeat, to: PeerID(2), from: PeerID(1), term: Term(1)))
            follower.tick()
            while follower.hasReady {
                follower.takeReady(into: &ready)
                follower.advance()
            }
        }
        for _ in 0..<1000 { try heartbeat(&follower) }
        let before = ukehi_allocation_count()
        for _ in 0..<1000 { try heartbeat(&follower) }
        #expect(ukehi_allocation_count() - before == 0)
    }

    @Test("a group of three at rest holds at most 400 bytes beyond its entries")
    func idleGroup() throws {
        guard ukehi_counts_allocations() == 1 else { return }
        let count = 1000
        let voters = ConfigurationState(voters: [PeerID(1), PeerID(2), PeerID(3)])
        let pool = RaftSettingsPool()
        let storages = (0..<count).map { _ in MemoryLogStorage(configuration: voters) }
        let groups = UnsafeMutablePointer<RawNode>.allocate(capacity: count)
        defer { groups.deallocate() }
        var ready = Ready()
        /// What a follower lives through: a vote, an entry, a heartbeat; then it comes to rest.
        func live(_ node: inout RawNode, _ storage: MemoryLogStorage) throws {
            func work() throws {
                while node.hasReady {
                    node.takeReady(into: &ready)
                    if let state = ready.hardState { storage.setHardState(state) }
                    try storage.append(ready.entries)
                    node.advance()
                }
            }
            let me = PeerID(2)
            try node.step(Message(kind: .requestVote, to: me, from: PeerID(1), term: Term(1)))
            try work()
            try node.step(
                Message(
                    kind: .appendEntries, to: me, from: PeerID(1), term: Term(1),
                    commit: LogIndex(1),
                    entries: [Entry(term: Term(1), index: LogIndex(1), data: Bytes("x"))]))
            try work()
            node.tick()
            try node.step(
                Message(
                    kind: .heartbeat, to: me, from: PeerID(1), term: Term(1), commit: LogIndex(1)))
            try work()
            node.releaseBuffers()
        }
        for number in 0..<count {
            var settings = RaftConfiguration(id: PeerID(2), electionTicks: 10, heartbeatTicks: 1)
            settings.seed = UInt64(number)
            (groups + number).initialize(
                to: try RawNode(
                    configuration: settings, storage: storages[number], pool: pool))
            try live(&groups[number], storages[number])
        }
        // What is freed with the cores is theirs; the rest is the storages'.
        let before = ukehi_allocated_bytes()
        groups.deinitialize(count: count)
        let inPlace = MemoryLayout<RawNode>.stride
        let bytes = inPlace + Int(before - ukehi_allocated_bytes()) / count
        withExtendedLifetime(storages) {}
        print("a group of three at rest holds \(bytes) bytes, \(inPlace) of them in place")
        #expect(bytes <= 400)
    }
}

private let isOptimised: Bool = {
    var isOptimised = true
    assert(
        {
            isOptimised = false
            return true
        }())
    return isOptimised
}()
