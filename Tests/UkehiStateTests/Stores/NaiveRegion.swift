// The naive twin of a key-value region: a dictionary, commands as values, nothing clever.

import UkehiBase
import UkehiState

/// What the state machine should do, said as plainly as possible.
struct NaiveRegion: Equatable {
    struct Stored: Equatable {
        var value: Bytes
        var version: UInt64
        var expiresAt: UInt64?
    }
    var range: KeyRange
    var epoch: RegionEpoch
    var pairs: [Bytes: Stored] = [:]
    var revision: UInt64 = 0
    var time: UInt64 = 0

    func live(_ key: Bytes) -> Stored? {
        guard let stored = pairs[key] else { return nil }
        if let expiresAt = stored.expiresAt, expiresAt <= time { return nil }
        return stored
    }

    mutating func apply(
        _ commands: [Command], time: UInt64, epoch: RegionEpoch
    ) -> [CommandResult] {
        self.time = max(self.time, time)
        guard epoch.version == self.epoch.version else { return commands.map { _ in .staleEpoch } }
        return commands.map { run($0) }
    }

    private func holds(_ expected: Expectation, _ key: Bytes) -> Bool {
        switch expected {
        case .absent: live(key) == nil
        case .version(let version): live(key)?.version == version
        case .value(let value): live(key)?.value == value
        }
    }

    private func owns(_ command: Command) -> Bool {
        if case .deleteRange(let lower, let upper) = command {
            return range.contains(lower)
                && (range.upper.isEmpty || (!upper.isEmpty && upper <= range.upper))
        }
        return range.contains(command.key)
    }

    private mutating func run(_ command: Command) -> CommandResult {
        guard owns(command) else { return .invalid(.outsideRegion) }
        switch command {
        case .compareAndSet(let key, let expected, let value, let expiresAt):
            guard holds(expected, key) else {
                return .conditionFailed(current: live(key)?.version)
            }
            revision += 1
            pairs[key] = value.map {
                Stored(value: $0, version: revision, expiresAt: expiresAt)
            }
            return .applied(version: revision)
        case .batch(let commands):
            // On a copy, kept only if everything succeeds.
            var next = self
            next.revision += 1
            for command in commands {
                guard owns(command) else { return .invalid(.outsideRegion) }
                if case .check(let key, let expected) = command {
                    guard holds(expected, key) else {
                        return .conditionFailed(current: live(key)?.version)
                    }
                } else if let error = next.write(command) {
                    return .invalid(error)
                }
            }
            self = next
            return .applied(version: revision)
        case .check, .user:
            return .invalid(.unsupported)
        default:
            var next = self
            next.revision += 1
            if let error = next.write(command) { return .invalid(error) }
            self = next
            if case .increment(let key, _) = command, let stored = live(key) {
                return .counter(value: Int64(text(stored.value)) ?? .min, version: revision)
            }
            return .applied(version: revision)
        }
    }

    private func text(_ bytes: Bytes) -> String { String(decoding: bytes.array, as: UTF8.self) }

    private mutating func write(_ command: Command) -> CommandError? {
        switch command {
        case .put(let key, let value, let expiresAt):
            pairs[key] = Stored(value: value, version: revision, expiresAt: expiresAt)
        case .delete(let key):
            pairs[key] = nil
        case .deleteRange(let lower, let upper):
            pairs = pairs.filter { key, _ in key < lower || (!upper.isEmpty && key >= upper) }
        case .increment(let key, let amount):
            let old = live(key)
            guard let value = old.map({ Int64(text($0.value)) }) ?? 0 else { return .notACounter }
            let (sum, overflow) = value.addingReportingOverflow(amount)
            if overflow { return .counterOverflow }
            pairs[key] = Stored(
                value: Command.counterValue(sum), version: revision, expiresAt: old?.expiresAt)
        case .compareAndSet, .check, .batch, .user:
            return .unsupported
        }
        return nil
    }

    /// Live pairs in order.
    var sorted: [KeyValue] {
        pairs.keys.sorted().compactMap { key in
            live(key).map { KeyValue(key: key, value: $0.value, version: $0.version) }
        }
    }
}
