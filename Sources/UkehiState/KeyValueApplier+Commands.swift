// Hot path. How each command is carried out. Everything here is decided by the record, the state
// before it and logged time alone, so that every replica decides alike.

import UkehiBase

extension KeyValueApplier {
    /// Carries out one record. A command at fault is a result; only the store's failures throw.
    func run(
        _ record: UnsafeRawBufferPointer, _ index: LogIndex, _ region: OpenRegion,
        _ state: inout RegionState, _ batch: any StoreBatch
    ) throws(StateError) -> CommandResult {
        let view: CommandView
        do { view = try CommandView(record: record) } catch { return .invalid(error) }
        guard view.session == 0 else {
            return try runInSession(view, index, region, &state, batch)
        }
        return try carryOut(view, region, &state, batch)
    }

    /// Carries out what is not of a session, or not remembered.
    func carryOut(
        _ view: CommandView, _ region: OpenRegion, _ state: inout RegionState,
        _ batch: any StoreBatch
    ) throws(StateError) -> CommandResult {
        do {
            if view.kind == .put {
                guard view.body.count <= CommandLimits.maxValueBytes else {
                    return .invalid(.valueTooLarge)
                }
            } else {
                try view.checkBody()
            }
        } catch {
            return .invalid(error)
        }
        guard region.contains(view.key) else { return .invalid(.outsideRegion) }
        switch view.kind {
        case .put:
            state.revision += 1
            batch.put(
                region.space, view.key, view.body, version: state.revision,
                expiresAt: view.expiresAt)
            return .applied(version: state.revision)
        case .delete:
            state.revision += 1
            batch.delete(region.space, view.key)
            return .applied(version: state.revision)
        case .deleteRange:
            guard region.containsEnd(view.body) else { return .invalid(.outsideRegion) }
            state.revision += 1
            batch.deleteRange(region.space, view.key, view.body)
            return .applied(version: state.revision)
        case .compareAndSet:
            return try compareAndSet(view, region, &state, batch)
        case .increment:
            return try increment(view, region, &state, batch)
        case .batch:
            return try runBatch(view, region, &state, batch)
        case .check, .user:
            return .invalid(.unsupported)
        }
    }

    private func compareAndSet(
        _ view: CommandView, _ region: OpenRegion, _ state: inout RegionState,
        _ batch: any StoreBatch
    ) throws(StateError) -> CommandResult {
        let condition: CommandView.Condition
        do { condition = try view.condition() } catch { return .invalid(error) }
        let current = try live(view.key, region, state, batch)
        guard KeyValueApplier.holds(condition, current) else {
            return .conditionFailed(current: current?.version)
        }
        state.revision += 1
        if condition.puts {
            batch.put(
                region.space, view.key, condition.value, version: state.revision,
                expiresAt: view.expiresAt)
        } else {
            batch.delete(region.space, view.key)
        }
        return .applied(version: state.revision)
    }

    private func increment(
        _ view: CommandView, _ region: OpenRegion, _ state: inout RegionState,
        _ batch: any StoreBatch
    ) throws(StateError) -> CommandResult {
        let current = try live(view.key, region, state, batch)
        let sum: Int64
        do {
            sum = try KeyValueApplier.sum(try view.amount(), current?.value)
        } catch {
            return .invalid(error)
        }
        state.revision += 1
        KeyValueApplier.putCounter(
            sum, view.key, region, version: state.revision, expiresAt: current?.expiresAt ?? 0,
            batch)
        return .counter(value: sum, version: state.revision)
    }

    // MARK: Batches

    /// All or nothing: everything that can fail is found before anything is written.
    private func runBatch(
        _ view: CommandView, _ region: OpenRegion, _ state: inout RegionState,
        _ batch: any StoreBatch
    ) throws(StateError) -> CommandResult {
        var counters: [PlannedCounter] = []
        if let failure = try judge(view.body, region, state, batch, &counters) { return failure }
        state.revision += 1
        var nested = NestedRecords(view.body)
        var counter = 0
        // Safe to stop at nothing: judging has walked the same bytes to their end.
        while let command = try? nested.next() {
            switch command.kind {
            case .put:
                batch.put(
                    region.space, command.key, command.body, version: state.revision,
                    expiresAt: command.expiresAt)
            case .delete:
                batch.delete(region.space, command.key)
            case .deleteRange:
                batch.deleteRange(region.space, command.key, command.body)
            case .increment:
                let planned = counters[counter]
                counter += 1
                KeyValueApplier.putCounter(
                    planned.sum, command.key, region, version: state.revision,
                    expiresAt: planned.expiresAt, batch)
            case .check, .compareAndSet, .batch, .user:
                continue
            }
        }
        return .applied(version: state.revision)
    }

    /// What an increment in a batch will leave.
    private struct PlannedCounter {
        var sum: Int64
        var expiresAt: UInt64
    }

    /// Why the batch cannot be carried out, nil if it can; then `counters` holds what its
    /// increments, in order, will leave.
    private func judge(
        _ body: UnsafeRawBufferPointer, _ region: OpenRegion, _ state: RegionState,
        _ batch: any StoreBatch, _ counters: inout [PlannedCounter]
    ) throws(StateError) -> CommandResult? {
        var nested = NestedRecords(body)
        // Earlier writes of this batch, for its increments; looked through backwards, which the
        // limit on a batch's commands keeps short.
        var earlier: [(view: CommandView, counter: Int)] = []
        while true {
            let view: CommandView
            do {
                guard let next = try nested.next() else { return nil }
                view = next
            } catch {
                return .invalid(error)
            }
            guard region.contains(view.key) else { return .invalid(.outsideRegion) }
            switch view.kind {
            case .check:
                let condition: CommandView.Condition
                do { condition = try view.condition() } catch { return .invalid(error) }
                let current = try live(view.key, region, state, batch)
                guard KeyValueApplier.holds(condition, current) else {
                    return .conditionFailed(current: current?.version)
                }
                continue
            case .deleteRange:
                guard region.containsEnd(view.body) else { return .invalid(.outsideRegion) }
            case .increment:
                do {
                    counters.append(
                        try plan(view, earlier, counters, region, state, batch))
                } catch {
                    switch error {
                    case .command(let error): return .invalid(error)
                    case .state(let error): throw error
                    }
                }
            case .put, .delete, .compareAndSet, .batch, .user: break
            }
            earlier.append((view, counters.count - 1))
        }
    }

    private enum PlanError: Error {
        case command(CommandError)
        case state(StateError)
    }

    private func plan(
        _ view: CommandView, _ earlier: [(view: CommandView, counter: Int)],
        _ counters: [PlannedCounter], _ region: OpenRegion, _ state: RegionState,
        _ batch: any StoreBatch
    ) throws(PlanError) -> PlannedCounter {
        do {
            let amount = try view.amount()
            for (command, counter) in earlier.reversed() {
                switch command.kind {
                case .put where order(command.key, view.key) == 0:
                    guard command.expiresAt == 0 || command.expiresAt > state.loggedTime else {
                        return PlannedCounter(sum: amount, expiresAt: 0)
                    }
                    return PlannedCounter(
                        sum: try KeyValueApplier.sum(amount, text: command.body),
                        expiresAt: command.expiresAt)
                case .increment where order(command.key, view.key) == 0:
                    var planned = counters[counter]
                    planned.sum = try KeyValueApplier.add(amount, planned.sum)
                    return planned
                case .delete where order(command.key, view.key) == 0,
                    .deleteRange
                where order(command.key, view.key) <= 0
                    && (command.body.isEmpty || order(view.key, command.body) < 0):
                    return PlannedCounter(sum: amount, expiresAt: 0)
                default: continue
                }
            }
            let current: StoredValue?
            do {
                current = try live(view.key, region, state, batch)
            } catch {
                throw PlanError.state(error)
            }
            return PlannedCounter(
                sum: try KeyValueApplier.sum(amount, current?.value),
                expiresAt: current?.expiresAt ?? 0)
        } catch let error as CommandError {
            throw .command(error)
        } catch let error as PlanError {
            throw error
        } catch {
            invariant(false, "planning a counter failed in an unknown way: \(error)")
            throw .command(.malformed)
        }
    }

    // MARK: Conditions and counters

    /// The value that counts now: what has expired by logged time is absent.
    private func live(
        _ key: UnsafeRawBufferPointer, _ region: OpenRegion, _ state: RegionState,
        _ batch: any StoreBatch
    ) throws(StateError) -> StoredValue? {
        guard let stored = try batch.get(region.space, key), stored.isLive(at: state.loggedTime)
        else { return nil }
        return stored
    }

    private static func holds(_ condition: CommandView.Condition, _ current: StoredValue?) -> Bool {
        switch condition.expected {
        case .absent: return current == nil
        case .version(let version): return current?.version == version
        case .value(let expected):
            guard let current else { return false }
            return current.value.withUnsafeBytes { order($0, expected) == 0 }
        }
    }

    private static func sum(_ amount: Int64, _ value: Bytes?) throws(CommandError) -> Int64 {
        guard let value else { return amount }
        return try value.withUnsafeBytes { text throws(CommandError) in
            try sum(amount, text: text)
        }
    }

    private static func sum(
        _ amount: Int64, text: UnsafeRawBufferPointer
    ) throws(CommandError) -> Int64 {
        guard let value = parseCounter(text) else { throw .notACounter }
        return try add(amount, value)
    }

    private static func add(_ a: Int64, _ b: Int64) throws(CommandError) -> Int64 {
        let (sum, overflow) = a.addingReportingOverflow(b)
        if overflow { throw .counterOverflow }
        return sum
    }

    /// Decimal digits with an optional minus sign, within 64 bits; nothing else.
    static func parseCounter(_ text: UnsafeRawBufferPointer) -> Int64? {
        let isNegative = text.first == UInt8(ascii: "-")
        let digits = text.dropFirst(isNegative ? 1 : 0)
        guard (1...20).contains(digits.count) else { return nil }
        // Downwards, because the least value has no positive counterpart.
        var value: Int64 = 0
        for digit in digits {
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(digit) else { return nil }
            let (shifted, overflow) = value.multipliedReportingOverflow(by: 10)
            let (next, underflow) = shifted.subtractingReportingOverflow(
                Int64(digit - UInt8(ascii: "0")))
            if overflow || underflow { return nil }
            value = next
        }
        if isNegative { return value }
        return value == .min ? nil : -value
    }

    private static func putCounter(
        _ value: Int64, _ key: UnsafeRawBufferPointer, _ region: OpenRegion, version: UInt64,
        expiresAt: UInt64, _ batch: any StoreBatch
    ) {
        var text = "\(value)"  // At most 20 bytes.
        text.withUTF8 {
            batch.put(
                region.space, key, UnsafeRawBufferPointer($0), version: version,
                expiresAt: expiresAt)
        }
    }
}
