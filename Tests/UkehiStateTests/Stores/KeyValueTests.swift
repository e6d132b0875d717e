// The key-value state machine on every store, against its naive twin.

import Testing
import UkehiBase
import UkehiState

let epoch1 = RegionEpoch(confVersion: 1, version: 1)

/// A store with an applier over it and the twins of its regions.
struct Machine {
    var box: StoreBox
    var applier: KeyValueApplier
    static let ranges: [(region: RegionID, range: KeyRange)] = [
        (RegionID(2), KeyRange(lower: "", upper: "h")),
        (RegionID(3), KeyRange(lower: "h", upper: "p")),
        (RegionID(4), KeyRange(lower: "p", upper: "~")),
    ]
    static let prefixes = ["c/", "h", "q\u{1}"]

    init(_ kind: StoreKind, seed: UInt64) throws {
        box = try kind.make(seed)
        applier = KeyValueApplier(store: box.store)
        _ = try open()
    }

    /// Opens the system region and the user regions; their applied indexes.
    func open() throws -> [LogIndex] {
        _ = try applier.open(region: .system, system: true, range: .all, epoch: epoch1)
        return try Self.ranges.map {
            try applier.open(region: $0.region, system: false, range: $0.range, epoch: epoch1)
        }
    }

    func page(_ region: RegionID, _ lower: Bytes, _ upper: Bytes, limit: Int) throws -> ScanPage {
        guard
            case .scan(let page) = applier.read(
                region: region, .scan(lower: lower, upper: upper, limit: limit), tier: .any)
        else { throw StateError(.unsupported, "no page") }
        return page
    }
    func get(_ region: RegionID, _ key: Bytes) throws -> VersionedValue? {
        guard case .value(let value) = applier.read(region: region, .get(key), tier: .any) else {
            throw StateError(.unsupported, "no value")
        }
        return value
    }
    func apply(_ region: RegionID, _ entries: [Entry]) throws -> ApplyItem {
        var batch = ApplyBatch()
        batch.append(region: region, entries: entries, wantsResults: true)
        try applier.apply(&batch)
        return batch.items[0]
    }
}

/// A history of a region: its entries, and its twin after each.
struct History {
    var entries: [Entry] = []
    var results: [[CommandResult]] = []
    var states: [NaiveRegion]

    init(_ position: Int, seed: UInt64, entries count: Int) throws {
        var twin = NaiveRegion(range: Machine.ranges[position].range, epoch: epoch1)
        states = [twin]
        var workload = Workload(seed: seed, prefix: Machine.prefixes[position])
        var time: UInt64 = 1000
        for index in 1...UInt64(count) {
            time = time &+ UInt64(workload.dice.roll(30)) &- 5
            switch workload.dice.roll(20) {
            case 0:  // The first entry of a term.
                entries.append(Entry(term: Term(1), index: LogIndex(index)))
                results.append([])
            case 1:
                entries.append(
                    Entry(
                        term: Term(1), index: LogIndex(index),
                        data: EntryPayload.encode(
                            admin: .compactLog(upTo: LogIndex(1)), epoch: epoch1, time: time)))
                results.append(twin.apply([], time: time, epoch: epoch1))
            default:
                let stale = workload.dice.roll(25) == 0
                let epoch = RegionEpoch(
                    confVersion: UInt64(workload.dice.roll(3)), version: stale ? 2 : 1)
                var commands: [Command] = []
                for _ in 0..<(1 + workload.dice.roll(12)) {
                    commands.append(workload.command(twin))
                }
                entries.append(
                    try entry(commands, index: index, time: time, epoch: epoch))
                results.append(twin.apply(commands, time: time, epoch: epoch))
            }
            states.append(twin)
        }
    }
}

@Suite("the key-value machine on every store")
struct KeyValueTests {
    @Test("random commands in several regions do what the twin does", arguments: StoreKind.all)
    func model(_ kind: StoreKind) throws {
        for seed in 1...UInt64(4) {
            let machine = try Machine(kind, seed: seed)
            let histories = try (0..<3).map {
                try History($0, seed: seed * 10 + UInt64($0), entries: 120)
            }
            var dice = Dice(seed)
            var done = [0, 0, 0]
            while done != [120, 120, 120] {
                var batch = ApplyBatch()
                var taken: [(position: Int, from: Int)] = []
                for _ in 0..<(1 + dice.roll(4)) {
                    let position = dice.roll(3)
                    let end = min(120, done[position] + 1 + dice.roll(5))
                    guard end > done[position] else { continue }
                    batch.append(
                        region: Machine.ranges[position].region,
                        entries: Array(histories[position].entries[done[position]..<end]),
                        wantsResults: true)
                    taken.append((position, done[position]))
                    done[position] = end
                }
                try machine.applier.apply(&batch)
                for (item, part) in zip(batch.items, taken) {
                    #expect(item.results.count == item.entries.count)
                    for offset in item.entries.indices {
                        #expect(
                            Array(item.results[offset])
                                == histories[part.position].results[part.from + offset])
                    }
                }
                for position in 0..<3 {
                    try check(machine, position, histories[position].states[done[position]])
                }
            }
            machine.applier.close()
        }
    }

    private func check(_ machine: Machine, _ position: Int, _ twin: NaiveRegion) throws {
        let (region, range) = Machine.ranges[position]
        var pairs: [KeyValue] = []
        var lower: Bytes? = range.lower
        while let from = lower {
            let page = try machine.page(region, from, "", limit: 7)
            pairs += page.pairs
            lower = page.next.flatMap { range.contains($0) ? $0 : nil }
        }
        #expect(pairs == twin.sorted)
        for pair in twin.sorted.prefix(3) {
            #expect(
                try machine.get(region, pair.key)
                    == VersionedValue(value: pair.value, version: pair.version))
        }
    }

    @Test("replicas on different stores, fed in different portions, have equal digests")
    func digests() throws {
        let histories = try (0..<3).map { try History($0, seed: 90 + UInt64($0), entries: 60) }
        var digests: [[RegionDigest]] = []
        for (number, kind) in (StoreKind.all + StoreKind.all).enumerated() {
            let machine = try Machine(kind, seed: 5)
            for position in 0..<3 {
                var rest = histories[position].entries[...]
                while !rest.isEmpty {
                    let portion = rest.prefix(1 + number)
                    rest = rest.dropFirst(1 + number)
                    _ = try machine.apply(Machine.ranges[position].region, Array(portion))
                }
            }
            digests.append(
                try Machine.ranges.map { try machine.applier.digest(region: $0.region) })
            machine.applier.close()
        }
        #expect(digests[0].map(\.applied) == [LogIndex(60), LogIndex(60), LogIndex(60)])
        for other in digests.dropFirst() { #expect(other == digests[0]) }
        #expect(Set(digests[0].map(\.high)).count == 3)
    }

    @Test(
        "one differing byte, version, expiry or time changes the digest", arguments: StoreKind.all)
    func digestSees(_ kind: StoreKind) throws {
        let variants: [[Command]] = [
            [.put(key: "a", value: "1")],
            [.put(key: "a", value: "2")],
            [.put(key: "b", value: "1")],
            [.put(key: "a", value: "1"), .put(key: "a", value: "1")],
            [.put(key: "a", value: "1", expiresAt: 9_999)],
            [.put(key: "a1", value: "")],
        ]
        var seen: Set<RegionDigest> = []
        for commands in variants {
            let machine = try Machine(kind, seed: 6)
            _ = try machine.apply(RegionID(2), [try entry(commands, index: 1, time: 50)])
            seen.insert(try machine.applier.digest(region: RegionID(2)))
            machine.applier.close()
        }
        #expect(seen.count == variants.count)
    }

    @Test("the system region's keys are its own", arguments: StoreKind.all)
    func systemRegion(_ kind: StoreKind) throws {
        let machine = try Machine(kind, seed: 7)
        let created = try machine.apply(
            .system,
            [try entry([.compareAndSet(key: "a", expected: .absent, value: "s")], index: 1)])
        #expect(Array(created.results[0]) == [.applied(version: 1)])
        #expect(try machine.get(RegionID(2), "a") == nil)
        _ = try machine.apply(
            RegionID(2), [try entry([.deleteRange(lower: "", upper: "h")], index: 1)])
        #expect(try machine.get(.system, "a")?.value == "s")
        machine.applier.close()
    }

    @Test(
        "a scan page says where to go on, at its limit and at the region's end",
        arguments: StoreKind.all)
    func pages(_ kind: StoreKind) throws {
        let machine = try Machine(kind, seed: 8)
        let keys = (0..<10).map { Bytes("h\($0)") }
        _ = try machine.apply(
            RegionID(3), [try entry(keys.map { .put(key: $0, value: "v") }, index: 1)])
        let first = try machine.page(RegionID(3), "h", "h9", limit: 4)
        #expect(first.pairs.map(\.key) == Array(keys[..<4]))
        #expect(first.next == "h4")
        let rest = try machine.page(RegionID(3), "h4", "h9", limit: 100)
        #expect(rest.pairs.map(\.key) == Array(keys[4..<9]))
        #expect(rest.next == nil)
        #expect(try machine.page(RegionID(3), "h9", "zz", limit: 100).next == "p")
        #expect(try machine.page(RegionID(3), "h9", "", limit: 100).next == "p")
        let big = Bytes([UInt8](repeating: 1, count: 600 << 10))
        _ = try machine.apply(
            RegionID(3),
            [
                try entry([.put(key: "i0", value: big)], index: 2),
                try entry([.put(key: "i1", value: big)], index: 3),
            ])
        let large = try machine.page(RegionID(3), "i", "j", limit: 100)
        #expect(large.pairs.count == 1)
        #expect(large.next == "i1")
        machine.applier.close()
    }

    @Test("what has expired by logged time is absent", arguments: StoreKind.all)
    func expiry(_ kind: StoreKind) throws {
        let machine = try Machine(kind, seed: 9)
        let region = RegionID(2)
        _ = try machine.apply(
            region, [try entry([.put(key: "a", value: "v", expiresAt: 100)], index: 1, time: 99)])
        #expect(try machine.get(region, "a")?.value == "v")
        let tick = Entry(
            term: Term(1), index: LogIndex(2), data: EntryPayload.encode(time: 100, epoch: epoch1))
        _ = try machine.apply(region, [tick])
        #expect(try machine.get(region, "a") == nil)
        #expect(try machine.page(region, "", "h", limit: 10).pairs.isEmpty)
        // A slower leader's clock does not bring it back.
        let late = try machine.apply(
            region,
            [
                try entry(
                    [.compareAndSet(key: "a", expected: .absent, value: "w")], index: 3, time: 5)
            ])
        #expect(Array(late.results[0]) == [.applied(version: 2)])
        machine.applier.close()
    }

    @Test(
        "entries that cannot be read stop the region, nothing of them is applied",
        arguments: StoreKind.all)
    func unreadable(_ kind: StoreKind) throws {
        let good = try entry([.put(key: "a", value: "v")], index: 1)
        let lies: [(byte: Int, code: StateError.Code)] = [
            (0, .newerFormat), (1, .newerFormat), (2, .newerFormat), (3, .newerFormat),
            (6, .unreadableEntry),
        ]
        for lie in lies {
            let machine = try Machine(kind, seed: 10)
            var bytes = good.data.array
            bytes[lie.byte] = 0x77
            let bad = Entry(term: Term(1), index: LogIndex(1), data: Bytes(bytes))
            do {
                _ = try machine.apply(RegionID(2), [bad])
                Issue.record("an entry of an unknown format was applied")
            } catch let error as StateError {
                #expect(error.code == lie.code)
                #expect(!error.message.contains("\"a\""))
            }
            machine.applier.close()
        }
    }

    @Test("a record that is bad inside is its own error, the others run", arguments: StoreKind.all)
    func badRecord(_ kind: StoreKind) throws {
        let machine = try Machine(kind, seed: 11)
        let good = try entry(
            [.put(key: "a", value: "1"), .put(key: "b", value: "2"), .put(key: "c", value: "3")],
            index: 1)
        var bytes = good.data.array
        let second = 32 + (8 + 1 + 1)
        bytes[second + 4] = 99
        let item = try machine.apply(
            RegionID(2), [Entry(term: Term(1), index: LogIndex(1), data: Bytes(bytes))])
        #expect(
            Array(item.results[0])
                == [.applied(version: 1), .invalid(.unknownKind), .applied(version: 2)])
        // Broken framing: nothing behind it can be told apart, and everyone is answered.
        bytes = good.data.array
        bytes[second] = 0xff
        let broken = try machine.apply(
            RegionID(2), [Entry(term: Term(1), index: LogIndex(2), data: Bytes(bytes))])
        #expect(
            Array(broken.results[0])
                == [.applied(version: 3), .invalid(.malformed), .invalid(.malformed)])
        machine.applier.close()
    }

    @Test("a membership change advances the epoch with the applied index", arguments: StoreKind.all)
    func change(_ kind: StoreKind) throws {
        let machine = try Machine(kind, seed: 12)
        var batch = ApplyBatch()
        batch.append(
            region: RegionID(2),
            entries: [
                Entry(term: Term(1), index: LogIndex(1), kind: .confChangeV2, data: "opaque")
            ],
            wantsResults: false,
            change: RegionChange(
                epoch: RegionEpoch(confVersion: 1, version: 2), descriptor: "as it is now"))
        #expect(try machine.applier.descriptor(region: RegionID(2)) == nil)
        try machine.applier.apply(&batch)
        #expect(try machine.applier.descriptor(region: RegionID(2)) == "as it is now")
        #expect(
            try machine.applier.epoch(region: RegionID(2))
                == RegionEpoch(confVersion: 1, version: 2))
        let item = try machine.apply(
            RegionID(2), [try entry([.put(key: "a", value: "v")], index: 2)])
        #expect(Array(item.results[0]) == [.staleEpoch])
        let read = machine.applier.read(region: RegionID(9), .get("a"), tier: .any)
        guard case .failed(let error) = read else {
            Issue.record("an unknown region was read")
            return
        }
        #expect(error.code == .unknownRegion)
        machine.applier.close()
    }

    @Test(
        "a region that is gone leaves nothing and takes nothing of others", arguments: StoreKind.all
    )
    func removal(_ kind: StoreKind) throws {
        let machine = try Machine(kind, seed: 14)
        let (gone, other) = (RegionID(2), RegionID(3))
        _ = try machine.apply(
            gone,
            [
                try entry([.put(key: "a", value: "1")], index: 1),
                try entry([.put(key: "c", value: "2"), .put(key: "g", value: "3")], index: 2),
            ])
        _ = try machine.apply(other, [try entry([.put(key: "h", value: "4")], index: 1)])
        _ = try machine.apply(.system, [try entry([.put(key: "a", value: "5")], index: 1)])
        var batch = ApplyBatch()
        batch.append(
            region: gone,
            entries: [Entry(term: Term(1), index: LogIndex(3), kind: .confChangeV2, data: "x")],
            wantsResults: false, change: RegionChange(epoch: epoch1, descriptor: "d"))
        try machine.applier.apply(&batch)
        for _ in 0..<2 {
            try machine.applier.remove(
                region: gone, system: false, range: Machine.ranges[0].range,
                keeping: [KeyRange(lower: "b", upper: "d"), Machine.ranges[1].range], grave: 17)
            #expect(try machine.box.store.grave(gone) == 17)
            #expect(try machine.box.store.grave(other) == nil)
            #expect(try machine.box.store.regionState(gone) == nil)
            #expect(try machine.box.store.regionDescriptor(gone) == nil)
            let view = try machine.box.store.openView(tier: .any)
            var keys: [Bytes] = []
            try view.scan(.user, from: Bytes(), to: Bytes()) { entry in
                keys.append(Bytes(copying: entry.key))
                return true
            }
            view.close()
            #expect(keys == ["c", "h"])
        }
        #expect(try machine.get(.system, "a")?.value == "5")
        #expect(throws: StateError.self) { try machine.applier.epoch(region: gone) }
        // Open again, it is as new.
        #expect(
            try machine.applier.open(
                region: gone, system: false, range: Machine.ranges[0].range, epoch: epoch1)
                == .zero)
        #expect(try machine.applier.epoch(region: other) == epoch1)
        machine.applier.close()
    }

    @Test("what is left of a range without others")
    func subtraction() {
        let whole = KeyRange(lower: "b", upper: "m")
        #expect(whole.subtracting([]) == [whole])
        #expect(whole.subtracting([.all]) == [])
        #expect(whole.subtracting([whole]) == [])
        #expect(
            whole.subtracting([
                KeyRange(lower: "k", upper: "z"), KeyRange(lower: "c", upper: "d"),
                KeyRange(lower: "z", upper: Bytes()),
            ]) == [
                KeyRange(lower: "b", upper: "c"), KeyRange(lower: "d", upper: "k"),
            ])
        #expect(
            KeyRange.all.subtracting([whole])
                == [KeyRange(lower: Bytes(), upper: "b"), KeyRange(lower: "m", upper: Bytes())])
        #expect(
            KeyRange.all.subtracting([KeyRange(lower: "x", upper: Bytes())])
                == [KeyRange(lower: Bytes(), upper: "x")])
    }

    @Test("regions applied side by side end as one after another", arguments: StoreKind.all)
    func sideBySide(_ kind: StoreKind) async throws {
        let machine = try Machine(kind, seed: 13)
        let applier = machine.applier
        let histories = try (0..<3).map { try History($0, seed: 70 + UInt64($0), entries: 150) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for position in 0..<3 {
                let entries = histories[position].entries
                let region = Machine.ranges[position].region
                group.addTask {
                    for entry in entries {
                        var batch = ApplyBatch()
                        batch.append(region: region, entries: [entry], wantsResults: true)
                        try applier.apply(&batch)
                        _ = applier.read(
                            region: region, .get(Machine.ranges[position].range.lower), tier: .any)
                    }
                }
            }
            group.addTask {
                for _ in 0..<20 { _ = try applier.digest(region: RegionID(3)) }
            }
            try await group.waitForAll()
        }
        for position in 0..<3 { try check(machine, position, histories[position].states[150]) }
        applier.close()
    }
}
