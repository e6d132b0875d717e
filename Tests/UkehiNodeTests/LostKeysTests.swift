// Regions whose keys were to come with the replay of another one's log, which cannot be read: they vote and append
// without keys, and are given them by their own leaders (SplitMerge/NodeCore+WaitingRegions.swift).

import Testing
import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiSimulation
import UkehiState

@testable import UkehiNode
@testable import UkehiWAL

@Suite("regions whose keys are lost")
struct LostKeysTests {
    private struct Scene {
        let cluster: TestCluster
        /// Of the region that was divided, and of what came out of it.
        let leader: Int
        /// Is down; its state is lost, and the entry that divided the region cannot be read and nobody has it.
        let damaged: Int
        let third: Int
        /// Keys below "h".
        let child: RegionID
        /// Keys below "c", out of the child; nil: that was not divided.
        let grandchild: RegionID?
        /// All others with a peer there.
        var all: [RegionID] { [TestCluster.id, child] + (grandchild.map { [$0] } ?? []) }
    }

    private static let keys: [Bytes] = ["a", "d", "k", "t"]

    private func write(_ cluster: TestCluster, _ rounds: Int = 1) throws {
        for number in 0..<rounds {
            for key in Self.keys {
                guard
                    case .command(.applied)? = try cluster.write(
                        .put(key: key, value: Bytes("\(number)")))
                else { throw Unexpected(what: "\(key) \(number)\n\(cluster.dump())") }
            }
        }
    }

    private struct Unexpected: Error {
        var what: String
    }

    private func split(_ cluster: TestCluster, at key: Bytes) throws -> RegionID {
        let leader = try #require(cluster.leader(of: key))
        let tag = cluster.submit(leader, .split([key]), key: key)
        cluster.pass(milliseconds: 500)
        guard case .regions(let made)? = cluster.sink.replies[tag] else {
            throw Unexpected(what: "not divided: \(String(describing: cluster.sink.replies[tag]))")
        }
        return try #require(made.first).region
    }

    private func flush(_ cluster: TestCluster, _ numbers: [Int]) {
        for number in numbers {
            cluster.members[number].store?.requestFlush()
            cluster.members[number].store?.completeFlush()
        }
    }

    /// The newest place of an entry in a member's log.
    private func rot(
        _ cluster: TestCluster, _ number: Int, _ region: RegionID, _ index: LogIndex
    ) throws {
        var place: LogPosition?
        let disk = cluster.members[number].fileSystem
        try WALInspector(fileSystem: disk, directory: "data/wal").dump { record in
            if case .entry(let entry) = record, entry.region == region,
                entry.index == index
            {
                place = entry.position
            }
            return true
        }
        let found = try #require(place)
        let path = "data/wal/" + LogNames.segment(found.segment)
        let at = Int(found.offset) + 9
        let old = try #require(disk.contents(path)?[at])
        disk.damage(path, at: at, with: [old ^ 4])
    }

    /// Of what a store has not flushed a crash takes any part: seeds are tried until it takes the division.
    ///
    /// - Parameter link: It is the child's division that cannot be read, not the first one.
    private func scene(
        storeSeed: UInt64?, twice: Bool = false, link: Bool = false
    ) throws -> Scene {
        var seed = storeSeed
        while true {
            let scene = try drawn(storeSeed: seed, twice: twice || link, link: link)
            guard let store = scene.cluster.members[scene.damaged].store,
                store.regionState(scene.child) != nil
            else { return scene }
            seed = seed.map { $0 + 100 }
        }
    }

    private func drawn(storeSeed: UInt64?, twice: Bool, link: Bool) throws -> Scene {
        let cluster = TestCluster(
            nodes: 3, regions: 1, storeSeed: storeSeed, flushesUnasked: false
        ) { $0.compactionInterval = 8 }
        cluster.logOptions = { $0.damagePolicy = .repair }
        try cluster.startAll()
        cluster.pass(milliseconds: 3000)
        try write(cluster)
        let leader = try #require(cluster.leads())
        let damaged = (leader + 1) % 3
        let third = (leader + 2) % 3
        let child = try split(cluster, at: "h")
        var divided = try #require(cluster.region(damaged)?.unflushedSplit)
        let grandchild = twice ? try split(cluster, at: "c") : nil
        if link { divided = try #require(cluster.region(damaged, child)?.unflushedSplit) }
        try #require(divided > .zero)
        // Enough of each log for the others to compact it past the division.
        try write(cluster, link ? 8 : 1)
        cluster.pass(milliseconds: 500)
        let rotten = link ? child : TestCluster.id
        for id in [TestCluster.id, child] where cluster.leads(id) == damaged {
            try cluster.transfer(to: leader, id)
        }
        cluster.crash(damaged, seed: 1)
        try rot(cluster, damaged, rotten, divided)
        for _ in 0..<4 {
            flush(cluster, [leader, third])
            cluster.pass(milliseconds: 2000)
            try write(cluster, 4)
        }
        for number in [leader, third] {
            let first = try #require(cluster.region(number, rotten)?.log.firstIndex)
            try #require(first > divided, "\(cluster.dump())")
        }
        return Scene(
            cluster: cluster, leader: leader, damaged: damaged, third: third, child: child,
            grandchild: grandchild)
    }

    /// A store in memory, and seeds of others.
    private static let stores: [UInt64?] = [nil, 1, 2]

    private func carries(_ packet: QueueNetwork.Packet, _ kind: MessageKind, of region: RegionID)
        -> Bool
    {
        packet.messages.contains { $0.region == region && $0.message.kind == kind }
    }

    /// Takes the damaged node's peer out of a region; what that peer does about it is not waited for.
    private func remove(_ region: RegionID, _ scene: Scene) throws {
        let gone = try scene.cluster.peer(on: scene.damaged, region)
        try scene.cluster.change([.demote(gone)], region)
        scene.cluster.pass(milliseconds: 200)
        try scene.cluster.change([.removeLearner(gone)], region)
    }

    /// Gives the damaged node another peer of a region, which votes.
    private func addAgain(_ region: RegionID, _ scene: Scene) throws {
        let node = scene.cluster.node(scene.damaged)
        try scene.cluster.change([.addLearner(PeerID(900), on: node)], region)
        scene.cluster.pass(milliseconds: 3000)
        try scene.cluster.change([.promote(PeerID(900))], region)
        scene.cluster.pass(milliseconds: 1000)
    }

    private func isLost(_ scene: Scene, _ region: RegionID) -> Bool {
        scene.cluster.region(scene.damaged, region)?.keysAreLost ?? false
    }

    private func expectWhole(_ scene: Scene, _ location: SourceLocation = #_sourceLocation) throws {
        let cluster = scene.cluster
        try write(cluster)
        cluster.pass(milliseconds: 1000)
        for id in scene.all {
            let peer = try #require(
                cluster.region(scene.damaged, id), "\(cluster.dump())", sourceLocation: location)
            #expect(!peer.awaitsKeys && !peer.raft.isDamaged, sourceLocation: location)
            #expect(peer.applied == peer.raft.committed, sourceLocation: location)
            let digests = try (0..<3).map {
                try cluster.members[$0].core?.applier.digest(region: id)
            }
            #expect(Set(digests).count == 1, "\(id)", sourceLocation: location)
        }
        let ranges = cluster.members.map { $0.core?.topology?.regions.map(\.range) ?? [] }
        #expect(Set(ranges).count == 1 && ranges[0].count == scene.all.count)
        #expect(cluster.failures.isEmpty, sourceLocation: location)
    }

    @Test(
        "without keys a peer votes and appends: another one leads and commits with it",
        arguments: stores)
    func votes(storeSeed: UInt64?) throws {
        let scene = try scene(storeSeed: storeSeed)
        let cluster = scene.cluster
        // No leader gives anything.
        cluster.network.drops = { $0.messages.contains { $0.message.kind == .snapshotRequest } }
        try cluster.start(scene.damaged)
        cluster.pass(milliseconds: 2000)
        let peer = try #require(cluster.region(scene.damaged, scene.child), "\(cluster.dump())")
        #expect(peer.awaitsKeys && !peer.keysAreLost)
        // To those who ask the region is not divided here yet.
        #expect(cluster.members[scene.damaged].core?.topology?.regions.count == 1)
        cluster.crash(scene.leader, seed: 2)
        cluster.pass(milliseconds: 5000)
        #expect(cluster.leads(scene.child) == scene.third, "\(cluster.dump())")
        #expect(cluster.leads() == scene.third)
        try write(cluster, 3)
        #expect(peer.raft.lastIndex == cluster.region(scene.third, scene.child)?.raft.lastIndex)
        #expect(peer.applied == SplitRules.firstApplied)
        // It does not lead, though nobody else is left who could.
        cluster.crash(scene.third, seed: 3)
        try cluster.start(scene.leader)
        cluster.network.drops = { packet in
            packet.from == cluster.node(scene.leader)
                && packet.messages.contains {
                    [.requestPreVote, .requestVote].contains($0.message.kind)
                }
        }
        cluster.pass(milliseconds: 5000)
        #expect(!(cluster.region(scene.damaged, scene.child)?.isLeader ?? true))
        cluster.network.drops = { _ in false }
        try cluster.start(scene.third)
        cluster.pass(milliseconds: 10_000)
        try expectWhole(scene)
    }

    @Test(
        "the region that was divided is given its state, and then what came out of it is",
        arguments: stores, [false, true])
    func restored(storeSeed: UInt64?, twice: Bool) throws {
        let scene = try scene(storeSeed: storeSeed, twice: twice)
        let cluster = scene.cluster
        var order: [RegionID] = []
        cluster.network.drops = { packet in
            for item in packet.messages where item.message.kind == .snapshotChunk {
                if order.last != item.region { order.append(item.region) }
            }
            return false
        }
        try cluster.start(scene.damaged)
        cluster.pass(milliseconds: 12_000)
        // What was kept in a file of its own needs nobody's.
        let isKept = storeSeed == nil && twice
        #expect(order == (isKept ? scene.all.dropLast() : scene.all), "\(cluster.dump())")
        try expectWhole(scene)
        // For good.
        cluster.crash(scene.damaged, seed: 3)
        try cluster.start(scene.damaged)
        cluster.pass(milliseconds: 3000)
        try expectWhole(scene)
    }

    @Test(
        "a crash between the two does not make what is missing seem to be there",
        arguments: stores, [false, true])
    func cutBetween(storeSeed: UInt64?, twice: Bool) throws {
        let scene = try scene(storeSeed: storeSeed, twice: twice)
        let cluster = scene.cluster
        var held = scene.child
        cluster.network.drops = { self.carries($0, .snapshotChunk, of: held) }
        try cluster.start(scene.damaged)
        for round in 0..<3 {
            cluster.pass(milliseconds: 6000)
            #expect(isLost(scene, scene.child), "\(round)\n\(cluster.dump())")
            let parent = try #require(cluster.region(scene.damaged))
            #expect(!parent.raft.isDamaged && parent.applied == parent.raft.committed)
            #expect(parent.descriptor.range.lower == "h")
            try write(cluster)
            // Nobody reads there what another region's replay has left.
            #expect(cluster.members[scene.damaged].core?.region(of: "a") == nil)
            flush(cluster, round == 1 ? [scene.damaged] : [])
            cluster.crash(scene.damaged, seed: UInt64(10 + round))
            try cluster.start(scene.damaged)
        }
        if let grandchild = scene.grandchild, storeSeed != nil {
            held = grandchild
            cluster.pass(milliseconds: 8000)
            #expect(!isLost(scene, scene.child) && isLost(scene, grandchild))
            cluster.crash(scene.damaged, seed: 20)
            try cluster.start(scene.damaged)
            cluster.pass(milliseconds: 3000)
            #expect(!isLost(scene, scene.child) && isLost(scene, grandchild))
        }
        cluster.network.drops = { _ in false }
        cluster.pass(milliseconds: 8000)
        try expectWhole(scene)
    }

    @Test(
        "cut after any step of the way, it ends the same", arguments: [nil, 1 as UInt64?])
    func everyStep(storeSeed: UInt64?) throws {
        /// So many steps of a fresh cluster; how many are left when all is done.
        func run(_ steps: Int, _ scene: Scene) throws -> Int {
            let cluster = scene.cluster
            try cluster.start(scene.damaged)
            var left = steps
            for tick in 0..<200 where left > 0 {
                guard cluster.region(scene.damaged, scene.child)?.hasOwnBase != true else { break }
                cluster.clock.advance(milliseconds: 50)
                for member in cluster.members { member.transport.dial() }
                for member in cluster.members { member.executor.ticking?.tick() }
                left -= cluster.settle(atMost: left)
                flush(cluster, tick % 5 == 4 ? [scene.damaged] : [])
            }
            return left
        }
        let whole = try scene(storeSeed: storeSeed)
        let steps = 1_000_000 - (try run(1_000_000, whole))
        let restored = try #require(whole.cluster.region(whole.damaged, whole.child))
        #expect(restored.hasOwnBase && !restored.awaitsKeys)
        for part in 0..<40 {
            let scene = try scene(storeSeed: storeSeed)
            let cluster = scene.cluster
            // Most of what counts is done in the last third.
            let cut = part < 4 ? steps * part / 6 : steps * 2 / 3 + steps * (part - 4) / 108
            _ = try run(max(cut, 1), scene)
            cluster.network.packets.removeAll()
            cluster.crash(scene.damaged, seed: UInt64(cut))
            try cluster.start(scene.damaged)
            cluster.pass(milliseconds: 10_000)
            try expectWhole(scene)
        }
    }

    @Test("the divided region's peer goes, though others wait for it", arguments: stores)
    func parentGoes(storeSeed: UInt64?) throws {
        let scene = try scene(storeSeed: storeSeed)
        let cluster = scene.cluster
        cluster.network.drops = { self.carries($0, .snapshotRequest, of: TestCluster.id) }
        try cluster.start(scene.damaged)
        cluster.pass(milliseconds: 3000)
        #expect(cluster.region(scene.damaged)?.raft.isDamaged == true)
        try remove(TestCluster.id, scene)
        cluster.pass(milliseconds: 5000)
        #expect(cluster.region(scene.damaged) == nil, "\(cluster.dump())")
        flush(cluster, [scene.damaged])
        cluster.pass(milliseconds: 8000)
        for round in 0..<2 {
            try write(cluster)
            cluster.pass(milliseconds: 1000)
            let peer = try #require(cluster.region(scene.damaged, scene.child))
            #expect(!peer.awaitsKeys && peer.applied == peer.raft.committed, "\(cluster.dump())")
            let digests = try (0..<3).map {
                try cluster.members[$0].core?.applier.digest(region: scene.child)
            }
            #expect(Set(digests).count == 1)
            guard round == 0 else { break }
            cluster.crash(scene.damaged, seed: 5)
            try cluster.start(scene.damaged)
            cluster.pass(milliseconds: 4000)
        }
        // A later peer of it finds a place.
        cluster.network.drops = { _ in false }
        try addAgain(TestCluster.id, scene)
        try expectWhole(scene)
    }

    @Test(
        "one between two others goes when no crash undoes the division that it came out of",
        arguments: [nil, 1, 2, 3, 4] as [UInt64?])
    func linkGoes(storeSeed: UInt64?) throws {
        let scene = try scene(storeSeed: storeSeed, link: true)
        let cluster = scene.cluster
        let grandchild = try #require(scene.grandchild)
        // As long as it is not flushed, if it is by asking.
        cluster.network.drops = { self.carries($0, .snapshotRequest, of: scene.child) }
        try cluster.start(scene.damaged)
        cluster.pass(milliseconds: 1000)
        #expect(cluster.region(scene.damaged, scene.child)?.raft.isDamaged == true)
        try remove(scene.child, scene)
        // Whenever the node loses its power, neither holds what is the other's.
        for round in 0..<12 {
            cluster.pass(milliseconds: 50 + 150 * round)
            if cluster.region(scene.damaged)?.unflushedSplit ?? .zero > .zero {
                #expect(cluster.members[scene.damaged].core?.isGiven(.all) == true)
                #expect(!isLost(scene, grandchild))
            }
            cluster.crash(scene.damaged, seed: UInt64(round))
            try cluster.start(scene.damaged)
        }
        cluster.pass(milliseconds: 3000)
        flush(cluster, [scene.damaged])
        cluster.pass(milliseconds: 3000)
        flush(cluster, [scene.damaged])
        cluster.pass(milliseconds: 8000)
        #expect(cluster.region(scene.damaged, scene.child) == nil, "\(cluster.dump())")
        cluster.network.drops = { _ in false }
        let peer = try #require(cluster.region(scene.damaged, grandchild), "\(cluster.dump())")
        #expect(!peer.awaitsKeys, "\(cluster.dump())")
        cluster.pass(milliseconds: 2000)
        try addAgain(scene.child, scene)
        try expectWhole(scene)
    }

    @Test("so does a peer whose keys are lost, and a later one finds a place", arguments: stores)
    func childGoes(storeSeed: UInt64?) throws {
        let scene = try scene(storeSeed: storeSeed)
        let cluster = scene.cluster
        cluster.network.drops = { self.carries($0, .snapshotChunk, of: scene.child) }
        try cluster.start(scene.damaged)
        cluster.pass(milliseconds: 6000)
        #expect(isLost(scene, scene.child))
        try remove(scene.child, scene)
        cluster.pass(milliseconds: 5000)
        #expect(cluster.region(scene.damaged, scene.child) == nil, "\(cluster.dump())")
        cluster.network.drops = { _ in false }
        flush(cluster, [scene.damaged])
        cluster.crash(scene.damaged, seed: 5)
        try cluster.start(scene.damaged)
        cluster.pass(milliseconds: 3000)
        #expect(cluster.region(scene.damaged, scene.child) == nil)
        #expect(cluster.members[scene.damaged].core?.region(of: "a") == nil)
        if let store = cluster.members[scene.damaged].store {
            let key: Bytes = "a"
            #expect(key.withUnsafeBytes { store.get(.user, $0, tier: .any) } == nil)
        }
        flush(cluster, [scene.damaged])
        cluster.pass(milliseconds: 2000)
        try addAgain(scene.child, scene)
        try expectWhole(scene)
    }

    @Test("whom nobody can give the keys a node does not run without: it says so")
    func alone() throws {
        let birth = RegionBirth(
            origin: RegionDescriptor(
                region: RegionID(7), isSystem: false, range: KeyRange(lower: "", upper: "h"),
                epoch: RegionEpoch(confVersion: 1, version: 2),
                peers: [PeerDescriptor(peer: PeerID(8), node: NodeID(1))]),
            parting: .init(parent: TestCluster.id, peer: PeerID(3), index: LogIndex(9)))
        var seed = RegionSeed(
            birth: birth, descriptor: birth.origin, hardState: .empty,
            firstIndex: SplitRules.firstApplied + 1, lastIndex: SplitRules.firstApplied + 3,
            compactedTerm: SplitRules.firstAppliedTerm, terms: [], applied: .zero,
            campaignsFirst: false)
        seed.losesKeys(of: PeerID(8))
        #expect(!seed.keysAreLost && seed.hasKeys)
        #expect(throws: NodeError.self) { try seed.check() }
    }
}
