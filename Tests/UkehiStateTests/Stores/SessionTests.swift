// Commands of sessions on every store: carried out once, whatever ends in between (RULES 39, 75).

import Testing
import UkehiBase
import UkehiState

@Suite("sessions on every store")
struct SessionTests {
    private static let region = RegionID(2)
    private static let child = RegionID(20)
    private static let second: UInt64 = 1_000_000_000

    private static func name(_ number: UInt64) -> UInt64 {
        SessionID(openedAt: 1000 + number, random: number).rawValue
    }

    /// One command of a session as an entry.
    private static func entry(
        _ command: Command, _ session: UInt64, _ number: UInt32, index: UInt64,
        version: UInt64 = 1, time: UInt64 = 2 * second, waiting: Int = 0
    ) throws -> Entry {
        let sequence = SessionSequence(salt: 5, waiting: waiting, number: number)
        var packer = EntryPacker(chunkCapacity: 1024)
        packer.begin(epoch: RegionEpoch(confVersion: 1, version: version), time: time)
        packer.append(
            try command.encoded(options: .init(session: (name(session), sequence.rawValue))))
        return Entry(term: Term(1), index: LogIndex(index), data: packer.finish())
    }

    private static func increment(
        _ machine: Machine, _ session: UInt64, _ number: UInt32, index: UInt64,
        region: RegionID = region, version: UInt64 = 1, time: UInt64 = 2 * second
    ) throws -> CommandResult? {
        let entry = try entry(
            .increment(key: "c", by: 1), session, number, index: index, version: version,
            time: time)
        return try machine.apply(region, [entry]).results[0].first
    }

    @Test("a repeated command answers what it came to, across a restart", arguments: StoreKind.all)
    func repeats(_ kind: StoreKind) throws {
        var machine = try Machine(kind, seed: 1)
        let first = try Self.increment(machine, 1, 1, index: 1)
        #expect(first == .counter(value: 1, version: 1))
        #expect(try Self.increment(machine, 1, 1, index: 2) == first)
        #expect(try Self.increment(machine, 1, 2, index: 3) == .counter(value: 2, version: 2))
        // It was answered when number 2 was asked.
        #expect(
            try Self.increment(machine, 1, 1, index: 4) == .sessionExpired(openAt: 2000))
        let digest = try machine.applier.digest(region: Self.region)
        if kind.isDurable {
            try machine.box.flush()
            try machine.box.crash()
            machine.applier = KeyValueApplier(store: machine.box.store)
            #expect(try machine.open()[0] == LogIndex(4))
            #expect(try machine.applier.digest(region: Self.region) == digest)
            #expect(
                try Self.increment(machine, 1, 2, index: 5) == .counter(value: 2, version: 2))
        }
        #expect(try machine.get(Self.region, "c")?.value == "2")
        machine.applier.close()
    }

    @Test("all results are remembered but that of a stale epoch", arguments: StoreKind.all)
    func results(_ kind: StoreKind) throws {
        let machine = try Machine(kind, seed: 1)
        func run(
            _ command: Command, _ number: UInt32, _ index: UInt64, version: UInt64 = 1
        ) throws -> CommandResult? {
            let entry = try Self.entry(
                command, 1, number, index: index, version: version, waiting: Int(number) - 1)
            return try machine.apply(Self.region, [entry]).results[0].first
        }
        let put = Command.put(key: "c", value: "x")
        #expect(try run(put, 1, 1, version: 9) == .staleEpoch)
        #expect(try run(put, 1, 2) == .applied(version: 1))
        let failing = Command.compareAndSet(key: "c", expected: .absent, value: "y")
        #expect(try run(failing, 2, 3) == .conditionFailed(current: 1))
        let faulty = Command.increment(key: "c", by: 1)
        #expect(try run(faulty, 3, 4) == .invalid(.notACounter))
        #expect(try run(.delete(key: "c"), 4, 5) == .applied(version: 2))
        // They would do something else now.
        #expect(try run(put, 1, 6) == .applied(version: 1))
        #expect(try run(failing, 2, 7) == .conditionFailed(current: 1))
        #expect(try run(faulty, 3, 8) == .invalid(.notACounter))
        #expect(try machine.get(Self.region, "c") == nil)
        machine.applier.close()
    }

    @Test("who was forgotten is refused, whatever its clock says", arguments: StoreKind.all)
    func forgotten(_ kind: StoreKind) throws {
        var machine = try Machine(kind, seed: 1)
        var limits = SessionLimits()
        limits.maxSessions = 2
        machine.applier = KeyValueApplier(store: machine.box.store, sessionLimits: limits)
        _ = try machine.open()
        var index: UInt64 = 0
        func run(_ session: UInt64, _ number: UInt32, time: UInt64) throws -> CommandResult? {
            index += 1
            return try Self.increment(machine, session, number, index: index, time: time)
        }
        _ = try run(1, 1, time: 2 * Self.second)
        _ = try run(2, 1, time: 3 * Self.second)
        _ = try run(1, 2, time: 4 * Self.second)
        // The second one was used least lately, and goes.
        #expect(try run(3, 1, time: 5 * Self.second)?.counter == 4)
        #expect(try run(2, 1, time: 5 * Self.second) == .sessionExpired(openAt: 5000))
        #expect(try run(2, 9, time: 5 * Self.second) == .sessionExpired(openAt: 5000))
        // Older ones that are known stay.
        #expect(try run(1, 3, time: 5 * Self.second)?.counter == 5)
        // Far ahead of all clocks.
        #expect(try run(70_000, 1, time: 5 * Self.second) == .sessionExpired(openAt: 5000))
        let state = try #require(try machine.box.store.regionState(Self.region))
        let decoded = try RegionState.decode(state, region: Self.region)
        #expect(decoded.horizon == 1002 && decoded.sessions == 2)
        machine.applier.close()
    }

    @Test("an idle session goes by logged time", arguments: StoreKind.all)
    func idle(_ kind: StoreKind) throws {
        let machine = try Machine(kind, seed: 1)
        _ = try Self.increment(machine, 1, 1, index: 1)
        let later = 2 * Self.second + 3601 * Self.second
        _ = try Self.increment(machine, 3_600_000, 1, index: 2, time: later)
        let refused = try Self.increment(machine, 1, 2, index: 3, time: later)
        #expect(refused == .sessionExpired(openAt: 3_603_000))
        machine.applier.close()
    }

    @Test("a region that comes out of another knows its sessions", arguments: StoreKind.all)
    func divided(_ kind: StoreKind) throws {
        let machine = try Machine(kind, seed: 1)
        let counted = try Self.increment(machine, 1, 1, index: 1)
        let next = RegionEpoch(confVersion: 1, version: 2)
        var batch = ApplyBatch()
        batch.append(
            region: Self.region,
            entries: [
                try Self.entry(.put(key: "g", value: "x"), 2, 1, index: 2),
                Entry(
                    term: Term(1), index: LogIndex(3),
                    data: EntryPayload.encode(
                        admin: .split(
                            SplitCommand(parts: [
                                .init(
                                    region: Self.child, end: "d", leader: PeerID(1),
                                    peers: [PeerID(1)])
                            ])), epoch: epoch1, time: 3 * Self.second)),
            ], wantsResults: false,
            change: RegionChange(
                epoch: next, descriptor: "descriptor", range: KeyRange(lower: "d", upper: "h"),
                parts: [
                    RegionPart(
                        region: Self.child, range: KeyRange(lower: "", upper: "d"), epoch: next,
                        applied: LogIndex(5), appliedTerm: Term(5), isHere: true)
                ]))
        try machine.applier.apply(&batch)
        let again = try Self.increment(machine, 1, 1, index: 6, region: Self.child, version: 2)
        #expect(again == counted)
        let more = try Self.increment(machine, 1, 2, index: 7, region: Self.child, version: 2)
        #expect(more?.counter == 2)
        let parent = try Self.entry(.put(key: "g", value: "y"), 2, 1, index: 4, version: 2)
        #expect(
            try machine.apply(Self.region, [parent]).results[0].first == .applied(version: 2))
        // And goes with all of them.
        try machine.applier.remove(
            region: Self.child, system: false, range: KeyRange(lower: "", upper: "d"),
            keeping: [], grave: 1)
        let view = try machine.box.store.openView(tier: .any)
        var left = 0
        try view.scan(.sessions, from: "", to: "") { _ in
            left += 1
            return true
        }
        view.close()
        #expect(left == 2)
        machine.applier.close()
    }

    @Test("a snapshot holds the sessions, and replaces those there were", arguments: StoreKind.all)
    func snapshot(_ kind: StoreKind) throws {
        let source = try Machine(kind, seed: 1)
        for session in 1...300 as ClosedRange<UInt64> {
            _ = try Self.increment(source, session, 1, index: session)
        }
        let file = MemoryFile()
        var made: SnapshotEncoder?
        try source.applier.writeSnapshot(of: Self.region) { state, _ in
            // What is applied meanwhile is not in it.
            _ = try Self.increment(source, 1, 2, index: 301)
            _ = try Self.increment(source, 999, 1, index: 302)
            var options = SnapshotOptions()
            options.frameBytes = 4096
            let encoder = try SnapshotEncoder(
                SnapshotHeader(
                    snapshot: 9, cluster: ClusterID(high: 1, low: 2), region: Self.region,
                    range: Machine.ranges[0].range,
                    members: [SnapshotMember(peer: PeerID(1), node: NodeID(1), roles: [.voter])],
                    state: state), state: state, options: options
            ) { file.bytes += $0 }
            made = encoder
            return encoder
        }
        _ = try made?.finish()
        let report = SnapshotReport.verify(file)
        #expect(report.problem == nil && report.soundSessions == 300 && report.soundPairs == 1)
        #expect(report.soundFrames > 2)

        let target = try Machine(kind, seed: 2)
        _ = try Self.increment(target, 5000, 1, index: 1, time: 9 * Self.second)
        _ = try target.applier.install(
            SnapshotFileReader(file), region: Self.region, descriptor: "descriptor")
        let digest = try target.applier.digest(region: Self.region)
        #expect(digest.high == report.digest?.high && digest.low == report.digest?.low)
        let again = try Self.increment(target, 300, 1, index: 301)
        #expect(again == .counter(value: 300, version: 300))
        #expect(try Self.increment(target, 1, 2, index: 302)?.counter == 301)
        let stored = try #require(try target.box.store.regionState(Self.region))
        #expect(try RegionState.decode(stored, region: Self.region).sessions == 300)
        source.applier.close()
        target.applier.close()
    }

    @Test("a command without a session leaves the state as it ever was", arguments: StoreKind.all)
    func without(_ kind: StoreKind) throws {
        let machine = try Machine(kind, seed: 1)
        var packer = EntryPacker(chunkCapacity: 1024)
        packer.begin(epoch: epoch1, time: 1)
        packer.append(try Command.put(key: "c", value: "v").encoded())
        let put = Entry(term: Term(1), index: LogIndex(1), data: packer.finish())
        _ = try machine.apply(Self.region, [put])
        #expect(try machine.box.store.regionState(Self.region)?.count == 56)
        machine.applier.close()
    }
}
