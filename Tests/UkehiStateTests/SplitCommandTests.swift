// What divides a region, as bytes and in the state.

import Testing
import UkehiBase

@testable import UkehiState

@Suite("commands that divide a region")
struct SplitCommandTests {
    static let command = SplitCommand(parts: [
        .init(region: RegionID(20), end: "m", leader: PeerID(31), peers: [PeerID(31), PeerID(32)]),
        .init(region: RegionID(21), end: "t", leader: PeerID(34), peers: [PeerID(33), PeerID(34)]),
    ])
    static let epoch = RegionEpoch(confVersion: 2, version: 3)

    private func payload() -> Bytes {
        EntryPayload.encode(admin: .split(Self.command), epoch: Self.epoch, time: 9)
    }

    @Test("they are read as they were written")
    func coding() throws {
        #expect(EntryPayload.isSplit(payload()))
        #expect(EntryPayload.admin(of: payload()) == .split(Self.command))
        #expect(try EntryPayload.header(of: payload())?.epoch == Self.epoch)
        let other = EntryPayload.encode(
            admin: .compactLog(upTo: LogIndex(4)), epoch: Self.epoch, time: 9)
        #expect(!EntryPayload.isSplit(other))
        #expect(!EntryPayload.isSplit(Bytes()))
    }

    @Test("version 1 of their bytes")
    func golden() {
        let hex = payload().array.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        #expect(
            hex == "0102000001000000" + "0900000000000000" + "0200000000000000"
                + "0300000000000000" + "02000000" + "02000000"
                + "1400000000000000" + "1f00000000000000" + "01000000" + "6d" + "02000000"
                + "1f00000000000000" + "2000000000000000"
                + "1500000000000000" + "2200000000000000" + "01000000" + "74" + "02000000"
                + "2100000000000000" + "2200000000000000")
    }

    @Test(
        "every prefix, every changed byte, every lie about a count is refused or is another command"
    )
    func broken() {
        let bytes = payload().array
        for length in 0..<bytes.count {
            let cut = Bytes(Array(bytes[..<length]))
            #expect(EntryPayload.admin(of: cut) == nil, "\(length) bytes")
        }
        for position in bytes.indices {
            for bit in 0..<8 as Range<UInt8> {
                var changed = bytes
                changed[position] ^= 1 << bit
                if case .split(let found)? = EntryPayload.admin(of: Bytes(changed)) {
                    // Positions before the content are epoch and time, which are not the command's.
                    #expect(found != Self.command || position < 32)
                }
            }
        }
        for position in [36, 57, 62, 101] {
            var lying = bytes
            for byte in 0..<4 where position + byte < lying.count { lying[position + byte] = 0xff }
            #expect(EntryPayload.admin(of: Bytes(lying)) == nil, "at \(position)")
        }
    }

    // MARK: In the state

    private static let parent = RegionID(2)

    private func entry(_ index: UInt64, _ command: Command, version: UInt64 = 1) throws -> Entry {
        var packer = EntryPacker()
        packer.begin(epoch: RegionEpoch(confVersion: 1, version: version), time: 100 + index)
        packer.append(try command.encoded())
        return Entry(term: Term(1), index: LogIndex(index), data: packer.finish())
    }

    private func divided(
        _ store: CrashModelStore, isHere: Bool = true
    ) throws -> (applier: KeyValueApplier, results: ApplyResults) {
        let applier = KeyValueApplier(store: store)
        _ = try applier.open(
            region: Self.parent, system: false, range: .all,
            epoch: RegionEpoch(confVersion: 1, version: 1))
        var batch = ApplyBatch()
        batch.append(
            region: Self.parent,
            entries: [
                try entry(1, .put(key: "a", value: "1")), try entry(2, .put(key: "z", value: "2")),
            ], wantsResults: false)
        let next = RegionEpoch(confVersion: 1, version: 2)
        let split = Entry(
            term: Term(1), index: LogIndex(3),
            data: EntryPayload.encode(
                admin: .split(Self.command), epoch: RegionEpoch(confVersion: 1, version: 1),
                time: 200))
        batch.append(
            region: Self.parent, entries: [split], wantsResults: false,
            change: RegionChange(
                epoch: next, descriptor: "descriptor", range: KeyRange(lower: "m", upper: ""),
                parts: [
                    RegionPart(
                        region: RegionID(20), range: KeyRange(lower: "", upper: "m"), epoch: next,
                        applied: LogIndex(5), appliedTerm: Term(5), isHere: isHere)
                ]))
        // Behind it in the same batch: of the old epoch, and of the new one but outside.
        batch.append(
            region: Self.parent,
            entries: [
                try entry(4, .put(key: "z", value: "old")),
                try entry(5, .put(key: "b", value: "outside"), version: 2),
                try entry(6, .put(key: "z", value: "new"), version: 2),
            ], wantsResults: true)
        try applier.apply(&batch)
        return (applier, batch.items[2].results)
    }

    private func value(_ key: Bytes, _ applier: KeyValueApplier, _ region: RegionID) -> Bytes? {
        guard case .value(let found) = applier.read(region: region, .get(key), tier: .any) else {
            return nil
        }
        return found?.value
    }

    @Test("the new region takes over keys, revision and time; the old one keeps what is left")
    func takesOver() throws {
        let store = CrashModelStore(
            seed: 1, options: .init(flushesUnaskedOneIn: 0, isInMemory: false))
        let (applier, results) = try divided(store)
        #expect(results[0].first == .staleEpoch)
        #expect(results[1].first == .invalid(.outsideRegion))
        #expect(results[2].first == .applied(version: 3))
        #expect(value("a", applier, RegionID(20)) == "1")
        #expect(value("z", applier, Self.parent) == "new")
        let stored = try #require(store.regionState(RegionID(20)))
        let state = try RegionState.decode(stored, region: RegionID(20))
        #expect(state.applied == LogIndex(5) && state.appliedTerm == Term(5))
        #expect(state.revision == 2 && state.loggedTime == 200)
        #expect(state.epoch == RegionEpoch(confVersion: 1, version: 2))
        // It goes on from there, and no version goes back.
        var batch = ApplyBatch()
        batch.append(
            region: RegionID(20), entries: [try entry(6, .put(key: "a", value: "3"), version: 2)],
            wantsResults: true)
        try applier.apply(&batch)
        #expect(batch.items[0].results[0].first == .applied(version: 3))
    }

    @Test("what divides is atomic: after a crash both halves are there, or the whole")
    func isAtomic() throws {
        for seed in 1...40 as ClosedRange<UInt64> {
            let store = CrashModelStore(
                seed: seed, options: .init(flushesUnaskedOneIn: 2, isInMemory: false))
            _ = try divided(store)
            _ = store.crash()
            let child = store.regionState(RegionID(20))
            let parent = try store.regionState(Self.parent).map {
                try RegionState.decode($0, region: Self.parent)
            }
            #expect((child != nil) == (parent.map { $0.applied >= LogIndex(3) } ?? false))
            #expect((parent?.epoch.version == 2) == (child != nil))
        }
    }

    @Test("of a region whose peer is here no more the keys go as it is replayed")
    func isGone() throws {
        let store = CrashModelStore(
            seed: 1, options: .init(flushesUnaskedOneIn: 0, isInMemory: false))
        _ = try divided(store, isHere: false)
        #expect(store.regionState(RegionID(20)) == nil)
        let key: Bytes = "a"
        #expect(key.withUnsafeBytes { store.get(.user, $0, tier: .any) } == nil)
    }
}
