import Testing

@testable import UkehiSimulation

/// The checker is proved by histories that it must refuse, each beside one that it must accept.
@Suite("Linearizability checker")
struct LinearizabilityTests {
    typealias Operation = HistoryOperation

    private func verdict(_ history: [Operation], keys: [Int] = [0, 1]) -> Linearizability.Verdict {
        Linearizability.check(history, keys: keys)
    }
    private func isRefused(_ history: [Operation]) -> Bool {
        if case .violation = verdict(history) { true } else { false }
    }
    private func put(
        _ value: UInt64, _ call: UInt64, _ ret: UInt64?, key: Int = 0, client: Int = 0
    ) -> Operation {
        Operation(
            client: client, action: .put(key: key, value: value), call: call, ret: ret,
            outcome: ret == nil ? .unknown : .done)
    }
    private func get(
        _ found: UInt64?, _ call: UInt64, _ ret: UInt64, key: Int = 0, client: Int = 1
    ) -> Operation {
        Operation(
            client: client, action: .get(key: key), call: call, ret: ret, outcome: .found(found))
    }
    private func scan(_ values: [UInt64?], _ call: UInt64, _ ret: UInt64) -> Operation {
        Operation(
            client: 2, action: .scan(keys: [0, 1]), call: call, ret: ret,
            outcome: .scanned(values))
    }
    private func delete(_ call: UInt64, _ ret: UInt64?) -> Operation {
        Operation(
            client: 3, action: .delete(key: 0), call: call, ret: ret,
            outcome: ret == nil ? .unknown : .done)
    }
    private func swap(
        _ expected: UInt64?, _ value: UInt64, _ call: UInt64, _ ret: UInt64?,
        _ outcome: Operation.Outcome
    ) -> Operation {
        Operation(
            client: 4, action: .compareAndSet(key: 0, expected: expected, value: value),
            call: call, ret: ret, outcome: outcome)
    }

    @Test("a read sees the last write that ended before it, or one that overlaps it")
    func registers() {
        #expect(verdict([]) == .linearizable)
        #expect(verdict([put(1, 0, 10), get(1, 20, 30)]) == .linearizable)
        #expect(verdict([put(1, 0, 10), put(2, 5, 25), get(1, 20, 30)]) == .linearizable)
        #expect(verdict([put(1, 0, 10), put(2, 5, 25), get(2, 20, 30)]) == .linearizable)
        // Stale: the write of 2 ended before the read began.
        #expect(isRefused([put(1, 0, 10), put(2, 11, 20), get(1, 21, 30)]))
        // Lost: an acknowledged write is not there.
        #expect(isRefused([put(1, 0, 10), get(nil, 20, 30)]))
        // Invented: nobody wrote it.
        #expect(isRefused([put(1, 0, 10), get(7, 20, 30)]))
        // From the future: the read ended before the write was called.
        #expect(isRefused([get(1, 0, 10), put(1, 20, 30)]))
    }

    @Test("two reads one after the other do not go back in time")
    func monotonicReads() {
        let write = put(2, 10, 100)
        #expect(
            verdict([put(1, 0, 5), write, get(1, 20, 30), get(2, 40, 50)]) == .linearizable)
        #expect(isRefused([put(1, 0, 5), write, get(2, 20, 30), get(1, 40, 50, client: 5)]))
        // Two readers that see two overlapping writes in opposite orders.
        #expect(
            isRefused([
                put(1, 0, 100), put(2, 0, 100, client: 6), get(1, 10, 20), get(2, 30, 40),
                get(1, 50, 60),
            ]))
    }

    @Test("a write of unknown outcome may have happened, late or never, but not before its call")
    func unknown() {
        #expect(verdict([put(1, 0, nil), get(nil, 10, 20)]) == .linearizable)
        #expect(verdict([put(1, 0, nil), get(1, 10, 20)]) == .linearizable)
        #expect(verdict([put(1, 0, nil), get(nil, 10, 20), get(1, 30, 40)]) == .linearizable)
        #expect(isRefused([put(1, 0, nil), get(1, 10, 20), get(nil, 30, 40)]))
        #expect(isRefused([get(1, 0, 5), put(1, 10, nil)]))
        // It happens once: behind a later write it does not come back.
        #expect(
            isRefused([put(1, 0, nil), get(1, 10, 20), put(2, 30, 40), get(1, 50, 60)]))
    }

    @Test("deletes")
    func deletes() {
        #expect(verdict([put(1, 0, 10), delete(20, 30), get(nil, 40, 50)]) == .linearizable)
        #expect(isRefused([put(1, 0, 10), delete(20, 30), get(1, 40, 50)]))
        #expect(verdict([put(1, 0, 10), delete(20, nil), get(1, 40, 50)]) == .linearizable)
        #expect(verdict([put(1, 0, 10), delete(20, nil), get(nil, 40, 50)]) == .linearizable)
    }

    @Test("a compare-and-set happens exactly when its condition holds")
    func conditions() {
        #expect(
            verdict([put(1, 0, 10), swap(1, 2, 20, 30, .done), get(2, 40, 50)]) == .linearizable)
        #expect(isRefused([put(1, 0, 10), swap(3, 2, 20, 30, .done), get(2, 40, 50)]))
        #expect(isRefused([put(1, 0, 10), swap(1, 2, 20, 30, .conditionFailed)]))
        // Two that expect the same value do not both win.
        #expect(
            isRefused([
                put(1, 0, 10), swap(1, 2, 20, 30, .done), swap(1, 3, 20, 30, .done),
            ]))
        #expect(
            verdict([
                put(1, 0, 10), swap(1, 2, 20, 30, .done), swap(1, 3, 20, 30, .conditionFailed),
            ]) == .linearizable)
        // Only an unseen write explains why it failed.
        #expect(
            verdict([put(1, 0, 10), put(9, 15, nil), swap(1, 2, 20, 30, .conditionFailed)])
                == .linearizable)
        #expect(
            verdict([put(1, 0, 10), swap(1, 9, 15, nil, .unknown), get(9, 20, 30)])
                == .linearizable)
        #expect(isRefused([put(1, 0, 10), swap(4, 9, 15, nil, .unknown), get(9, 20, 30)]))
        // An unknown swap that hangs on an unknown put.
        #expect(
            verdict([
                put(1, 0, 10), put(5, 11, nil), swap(5, 6, 15, nil, .unknown), get(6, 20, 30),
            ]) == .linearizable)
    }

    @Test("a scan sees all its keys at one moment")
    func scans() {
        let writes = [put(1, 0, 10), put(2, 0, 10, key: 1)]
        #expect(verdict(writes + [scan([1, 2], 20, 30)]) == .linearizable)
        #expect(isRefused(writes + [scan([1, nil], 20, 30)]))
        // Torn: the first key after both writes, the second before the first of them.
        #expect(
            isRefused(
                writes + [
                    put(3, 20, 25, key: 1), put(4, 26, 30), scan([4, 2], 15, 40),
                ]))
        #expect(
            verdict(
                writes + [
                    put(3, 20, 25, key: 1), put(4, 26, 30), scan([1, 3], 15, 40),
                ]) == .linearizable)
    }

    @Test("histories with many clients at once are decided")
    func concurrent() {
        var history: [Operation] = []
        for round in 0..<60 {
            for client in 0..<8 {
                let value = UInt64(round * 8 + client + 1)
                history.append(
                    put(value, UInt64(round) * 100, UInt64(round) * 100 + 90, client: client))
            }
            history.append(
                get(UInt64(round * 8 + 3), UInt64(round) * 100 + 95, UInt64(round) * 100 + 99))
        }
        #expect(verdict(history) == .linearizable)
        history.append(get(3, 60 * 100, 60 * 100 + 1))
        #expect(isRefused(history))
    }
}
