// Whether a history of clients can be explained by one order of operations, each taking effect at
// one moment between its call and its return.
//
// The search of Wing and Gong with Lowe's memory of configurations (Lowe, "Testing for
// linearizability", 2017): take any operation that may come next, undo when stuck, and never visit
// the same set of operations in the same state twice. Histories are checked per region, since a
// scan ties a region's keys together; regions are independent.

/// Says whether histories are linearizable.
package enum Linearizability {
    package enum Verdict: Sendable, Hashable {
        case linearizable
        /// No order explains the history; the operations that could not be placed, in words.
        case violation(String)
        /// The search was given up after too many steps.
        case undecided
    }

    /// Checks one region's history; `keys` are the region's.
    ///
    /// - Complexity: Exponential in the operations that overlap, at worst; `maxSteps` bounds it.
    package static func check(
        _ history: [HistoryOperation], keys: [Int], maxSteps: Int = 2_000_000
    ) -> Verdict {
        var search = Search(history: simplified(history), keys: keys)
        return search.run(maxSteps: maxSteps)
    }

    // MARK: Operations without an answer

    /// Leaves out writes of unknown outcome that nothing can have noticed, and gives the others that
    /// were noticed an end: when their value was first seen, they had happened.
    ///
    /// Leaving out is right, because what nobody noticed may as well never have happened. A value is
    /// noticed by who finds it; absence by who finds nothing; either by a condition that fails. A
    /// compare-and-set of unknown outcome that failed did nothing, so that it notices only what it must
    /// have found if it did something.
    private static func simplified(_ history: [HistoryOperation]) -> [HistoryOperation] {
        let history = history.filter { $0.outcome != .rejected }
        let noticed = Noticed(history)
        var kept: [HistoryOperation] = []
        for var operation in history {
            guard operation.outcome == .unknown else {
                kept.append(operation)
                continue
            }
            switch operation.action {
            case .get, .scan: continue
            case .increment(let key):
                // What a counter holds later says how many there were.
                guard (noticed.counts[key] ?? 0) >= operation.call else { continue }
                kept.append(operation)
            case .put(let key, let value), .compareAndSet(let key, _, let value):
                if let seen = noticed.values[value] {
                    if seen != .max { operation.ret = max(seen, operation.call) }
                } else if (noticed.failures[key] ?? 0) < operation.call {
                    continue
                }
                kept.append(operation)
            case .delete(let key):
                guard
                    max(noticed.absences[key] ?? 0, noticed.failures[key] ?? 0) >= operation.call
                else { continue }
                kept.append(operation)
            }
        }
        return kept
    }

    /// What operations of a history show to have happened.
    private struct Noticed {
        /// By value: when it was first seen; `.max` if only what is unknown itself may have seen it.
        var values: [UInt64: UInt64] = [:]
        /// By key: when it was last seen to hold nothing.
        var absences: [Int: UInt64] = [:]
        /// By key: when a condition last failed.
        var failures: [Int: UInt64] = [:]
        /// By key: when it was last read or counted.
        var counts: [Int: UInt64] = [:]

        init(_ history: [HistoryOperation]) {
            for operation in history {
                let ret = operation.ret ?? .max
                switch (operation.action, operation.outcome) {
                case (.increment(let key), .counted):
                    counts[key] = max(counts[key] ?? 0, ret)
                case (.get(let key), .found(let value)): saw(value, key, ret)
                case (.scan(let keys), .scanned(let values)):
                    for (key, value) in zip(keys, values) { saw(value, key, ret) }
                case (.compareAndSet(let key, let expected, _), .done): saw(expected, key, ret)
                case (.compareAndSet(let key, let expected, _), .unknown):
                    // If it happened, it saw what it expected: an unknown write may hang on another.
                    if let expected {
                        values[expected] = values[expected] ?? .max
                    } else {
                        absences[key] = .max
                    }
                case (.compareAndSet(let key, _, _), .conditionFailed):
                    failures[key] = max(failures[key] ?? 0, ret)
                default: break
                }
            }
        }

        private mutating func saw(_ value: UInt64?, _ key: Int, _ ret: UInt64) {
            counts[key] = max(counts[key] ?? 0, ret)
            if let value {
                values[value] = min(values[value] ?? ret, ret)
            } else {
                absences[key] = max(absences[key] ?? 0, ret)
            }
        }
    }

    // MARK: The search

    private struct Configuration: Hashable {
        var done: [UInt64]
        var state: [UInt64]
    }

    private struct Search {
        let operations: [HistoryOperation]
        let keys: [Int]
        /// Calls and returns in order of time, as a list that operations are lifted out of.
        private var next: [Int]
        private var previous: [Int]
        /// For each event: the operation, and whether it is its call.
        private let events: [(operation: Int, isCall: Bool)]
        private var returnEvent: [Int]
        private let head: Int

        init(history: [HistoryOperation], keys: [Int]) {
            operations = history
            self.keys = keys
            var timed: [(time: UInt64, isCall: Bool, operation: Int)] = []
            for (position, operation) in history.enumerated() {
                timed.append((operation.call, true, position))
                timed.append((operation.ret ?? .max, false, position))
            }
            // At one instant calls come first: operations that touch overlap.
            timed.sort {
                $0.time != $1.time
                    ? $0.time < $1.time
                    : $0.isCall != $1.isCall ? $0.isCall : $0.operation < $1.operation
            }
            events = timed.map { ($0.operation, $0.isCall) }
            returnEvent = Array(repeating: 0, count: history.count)
            for (position, event) in events.enumerated() where !event.isCall {
                returnEvent[event.operation] = position
            }
            head = events.count
            next = (0...events.count).map { $0 + 1 }
            previous = (0...events.count).map { $0 - 1 }
            next[head] = events.isEmpty ? head : 0
            if !events.isEmpty {
                next[events.count - 1] = head
                previous[0] = head
            }
        }

        private func value(_ state: [UInt64], _ key: Int) -> UInt64 {
            state[keys.firstIndex(of: key) ?? 0]
        }

        /// The state after the operation, if it can happen in `state`. Absent is 0.
        private func step(_ state: [UInt64], _ operation: HistoryOperation) -> [UInt64]? {
            var after = state
            func set(_ key: Int, _ value: UInt64) { after[keys.firstIndex(of: key) ?? 0] = value }
            switch (operation.action, operation.outcome) {
            case (.get(let key), .found(let found)):
                return value(state, key) == found ?? 0 ? state : nil
            case (.scan(let scanned), .scanned(let values)):
                for (key, found) in zip(scanned, values) where value(state, key) != found ?? 0 {
                    return nil
                }
                return state
            case (.put(let key, let new), _): set(key, new)
            case (.increment(let key), let outcome):
                let before = value(state, key)
                let sum = (before == 0 ? SimulatedValue.counterMark : before) + 1
                if case .counted(let counted) = outcome, counted != sum { return nil }
                set(key, sum)
            case (.delete(let key), _): set(key, 0)
            case (.compareAndSet(let key, let expected, let new), let outcome):
                let holds = value(state, key) == expected ?? 0
                switch outcome {
                case .done: if !holds { return nil }
                case .conditionFailed: return holds ? nil : state
                default: if !holds { return state }
                }
                set(key, new)
            default: return state
            }
            return after
        }

        private mutating func lift(_ event: Int) {
            for position in [event, returnEvent[events[event].operation]] {
                next[previous[position]] = next[position]
                previous[next[position]] = previous[position]
            }
        }

        private mutating func unlift(_ event: Int) {
            for position in [returnEvent[events[event].operation], event] {
                next[previous[position]] = position
                previous[next[position]] = position
            }
        }

        mutating func run(maxSteps: Int) -> Verdict {
            var configuration = Configuration(
                done: Array(repeating: 0, count: (operations.count + 63) / 64),
                state: Array(repeating: 0, count: keys.count))
            var visited: Set<Configuration> = []
            var path: [(event: Int, state: [UInt64])] = []
            var event = next[head]
            var steps = 0
            var deepest = 0
            var stuck: Set<Int> = []
            while next[head] != head {
                steps += 1
                if steps > maxSteps { return .undecided }
                if event != head, events[event].isCall {
                    let operation = events[event].operation
                    if let after = step(configuration.state, operations[operation]) {
                        var reached = configuration
                        reached.done[operation / 64] |= 1 << UInt64(operation % 64)
                        reached.state = after
                        if visited.insert(reached).inserted {
                            path.append((event, configuration.state))
                            configuration = reached
                            lift(event)
                            event = next[head]
                            continue
                        }
                    }
                    event = next[event]
                    continue
                }
                // A return whose operation could not be placed. Without an end it need not be.
                if event != head, operations[events[event].operation].ret == nil { break }
                if event == head { break }
                if path.count >= deepest {
                    deepest = path.count
                    stuck = [events[event].operation]
                }
                guard let last = path.popLast() else { return .violation(words(stuck, deepest)) }
                let operation = events[last.event].operation
                configuration.done[operation / 64] &= ~(1 << UInt64(operation % 64))
                configuration.state = last.state
                unlift(last.event)
                event = next[last.event]
            }
            return .linearizable
        }

        private func words(_ stuck: Set<Int>, _ placed: Int) -> String {
            let shown = stuck.sorted().map { position in
                let operation = operations[position]
                return
                    "client \(operation.client)'s \(operation.action), called at "
                    + "\(operation.call / 1000) us, \(operation.outcome) at "
                    + "\((operation.ret ?? 0) / 1000) us"
            }
            return "no order of operations explains "
                + shown.joined(separator: "; ") + " (\(placed) of \(operations.count) placed)"
        }
    }
}
