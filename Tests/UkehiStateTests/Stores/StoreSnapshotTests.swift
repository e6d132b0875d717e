// A region's state, written from each store and read back.

import Testing
import UkehiBase
import UkehiEnvironment
import UkehiState

@Suite("snapshots of every store")
struct StoreSnapshotTests {
    private static func header(_ position: Int, _ state: RegionState) -> SnapshotHeader {
        SnapshotHeader(
            snapshot: 9, cluster: ClusterID(high: 1, low: 2),
            region: Machine.ranges[position].region, range: Machine.ranges[position].range,
            members: [SnapshotMember(peer: PeerID(1), node: NodeID(1), roles: [.voter])],
            state: state)
    }

    /// A snapshot of a region; `meanwhile` runs when its view is open.
    private static func snapshot(
        _ machine: Machine, _ position: Int, meanwhile: () throws -> Void = {}
    ) throws -> MemoryFile {
        let file = MemoryFile()
        var made: SnapshotEncoder?
        try machine.applier.writeSnapshot(of: Machine.ranges[position].region) { state, _ in
            try meanwhile()
            var options = SnapshotOptions()
            options.frameBytes = 4096
            let encoder = try SnapshotEncoder(
                header(position, state), state: state, options: options
            ) { file.bytes += $0 }
            made = encoder
            return encoder
        }
        _ = try made?.finish()
        return file
    }

    /// State, pairs and digest of a snapshot.
    private static func read(
        _ file: MemoryFile
    ) throws -> (state: RegionState, pairs: [Bytes: NaiveRegion.Stored], digest: StateDigest) {
        let reader = try SnapshotFileReader(file)
        var state: RegionState?
        var pairs: [Bytes: NaiveRegion.Stored] = [:]
        var digest = StateDigest()
        while let frame = try reader.next() {
            if let found = frame.state {
                state = found
                digest.mix(found.revision, found.loggedTime)
                digest.mix(found.epoch.confVersion, found.epoch.version)
            }
            frame.forEachPair {
                digest.mix($0.key)
                digest.mix($0.value)
                digest.mix($0.version, $0.expiresAt)
                pairs[Bytes(copying: $0.key)] = NaiveRegion.Stored(
                    value: Bytes(copying: $0.value), version: $0.version,
                    expiresAt: $0.expiresAt == 0 ? nil : $0.expiresAt)
            }
        }
        return (try #require(state), pairs, digest)
    }

    @Test("hold what the twin holds, and what the region's digest is of", arguments: StoreKind.all)
    func contents(_ kind: StoreKind) throws {
        let machine = try Machine(kind, seed: 3)
        for position in 0..<2 {
            let history = try History(position, seed: 30 + UInt64(position), entries: 150)
            let region = Machine.ranges[position].region
            for entry in history.entries { _ = try machine.apply(region, [entry]) }
            let found = try Self.read(try Self.snapshot(machine, position))
            let twin = try #require(history.states.last)
            #expect(found.state.applied == LogIndex(150))
            #expect(found.state.revision == twin.revision)
            #expect(found.pairs.filter { twin.pairs[$0.key] != nil } == twin.pairs)
            let digest = try machine.applier.digest(region: region)
            #expect(digest.high == found.digest.high && digest.low == found.digest.low)
        }
        let untouched = try Self.read(try Self.snapshot(machine, 2))
        #expect(untouched.state == RegionState(epoch: epoch1))
        #expect(untouched.pairs.isEmpty)
        machine.applier.close()
    }

    @Test(
        "hold what was applied when they began, whatever is applied meanwhile",
        arguments: StoreKind.all)
    func pinned(_ kind: StoreKind) throws {
        let machine = try Machine(kind, seed: 5)
        let region = Machine.ranges[0].region
        _ = try machine.apply(region, [try entry([.put(key: "c/1", value: "old")], index: 1)])
        let file = try Self.snapshot(machine, 0) {
            let put = try entry([.put(key: "c/1", value: "new")], index: 2)
            _ = try machine.apply(region, [put])
        }
        let found = try Self.read(file)
        #expect(found.state.applied == LogIndex(1))
        #expect(found.pairs["c/1"]?.value == "old")
        #expect(try machine.get(region, "c/1")?.value == "new")
        machine.applier.close()
    }
}
