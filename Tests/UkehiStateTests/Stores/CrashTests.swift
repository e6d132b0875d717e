// After a crash, applied indexes and data agree, whatever was lost, and replay leads to the same
// state (RULES 39).

import Testing
import UkehiBase
import UkehiState

@Suite("crashes of every store")
struct CrashTests {
    @Test(
        "data are what the applied index says, nothing flushed is lost, replay ends alike",
        arguments: StoreKind.all)
    func crash(_ kind: StoreKind) throws {
        let count = 60
        for seed in 1...UInt64(kind.name == "RocksDB" ? 3 : 20) {
            var machine = try Machine(kind, seed: seed)
            var dice = Dice(seed)
            let histories = try (0..<3).map {
                try History($0, seed: seed * 7 + UInt64($0), entries: count)
            }
            var applied = [0, 0, 0]
            var crashes = 0
            while applied != [count, count, count] {
                var batch = ApplyBatch()
                for position in 0..<3 where dice.roll(2) == 0 {
                    let end = min(count, applied[position] + 1 + dice.roll(6))
                    guard end > applied[position] else { continue }
                    batch.append(
                        region: Machine.ranges[position].region,
                        entries: Array(histories[position].entries[applied[position]..<end]),
                        wantsResults: false)
                    applied[position] = end
                }
                try machine.applier.apply(&batch)
                if dice.roll(8) == 0 { machine.applier.requestFlush() }
                if dice.roll(8) == 0 { try machine.box.flush() }
                guard crashes < 4, dice.roll(6) == 0 else { continue }
                crashes += 1
                let flushed = Machine.ranges.map {
                    machine.applier.flushedAppliedIndex(region: $0.region)
                }
                try machine.box.crash()
                if !kind.isDurable { machine.box = try kind.make(seed) }
                machine.applier = KeyValueApplier(store: machine.box.store)
                let found = try machine.open()
                for position in 0..<3 {
                    #expect(found[position] >= flushed[position])
                    #expect(found[position] <= LogIndex(UInt64(applied[position])))
                    applied[position] = Int(found[position].rawValue)
                    try check(machine, position, histories[position].states[applied[position]])
                }
            }
            for position in 0..<3 {
                try check(machine, position, histories[position].states[count])
            }
            machine.applier.close()
        }
    }

    private func check(_ machine: Machine, _ position: Int, _ twin: NaiveRegion) throws {
        let (region, range) = Machine.ranges[position]
        let page = try machine.page(region, range.lower, range.upper, limit: 1000)
        #expect(page.pairs == twin.sorted)
        #expect(page.next == nil)
    }

    @Test(
        "flushed applied indexes follow a flush, and are zero where nothing is durable",
        arguments: StoreKind.all)
    func flushed(_ kind: StoreKind) throws {
        let machine = try Machine(kind, seed: 30)
        let region = RegionID(2)
        #expect(machine.applier.flushedAppliedIndex(region: region) == .zero)
        _ = try machine.apply(region, [try entry([.put(key: "a", value: "v")], index: 1)])
        try machine.box.flush()
        let first = machine.applier.flushedAppliedIndex(region: region)
        #expect(first == (kind.isDurable ? LogIndex(1) : .zero))
        machine.applier.close()
    }
}
