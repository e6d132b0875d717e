// Typed errors mean what they say (DESIGN 9; TESTING R5): what was acknowledged is in the log, what was
// `rejected` never gets there, and what was called `outcomeUnknown` gets there once at most.
//
// Every write of a simulated client without a session carries a value of its own and is submitted once,
// so that the log itself shows what became of it, whether anybody reads it or not. What is sent in a
// session may be in the log more than once: see Sessions.swift.

import UkehiBase
import UkehiRaft
import UkehiState

struct OutcomeChecker {
    struct Place: Hashable {
        var region: RegionID
        var index: LogIndex
        /// The region's version as its proposer believed it: at another one no command runs (RULES 23).
        var version: UInt64
    }
    private var places: [UInt64: Place] = [:]
    private var rejected: Set<UInt64> = []

    /// An entry is committed for good. Returns what is wrong with that, if anything is.
    mutating func committed(_ entry: Entry, in region: RegionID) -> String? {
        var problem: String?
        Self.forEachValue(in: entry) { value, version in
            if rejected.contains(value) {
                problem = "write \(value) was rejected, and is committed at \(entry.index)"
            }
            if let before = places[value] {
                problem =
                    "write \(value) is committed twice, at \(before.index) of \(before.region) and at "
                    + "\(entry.index) of \(region)"
            }
            places[value] = Place(region: region, index: entry.index, version: version)
        }
        return problem
    }

    /// A client was told that nothing was done; `isVoid` says whether an entry there carried nothing out.
    mutating func rejected(_ value: UInt64, isVoid: (Place) -> Bool) -> String? {
        rejected.insert(value)
        guard let place = places[value], !isVoid(place) else { return nil }
        return "write \(value) was committed at \(place.index) of \(place.region), then rejected"
    }

    /// A client was told a result.
    func answered(_ value: UInt64, isVoid: (Place) -> Bool) -> String? {
        guard let place = places[value] else {
            return "write \(value) was answered, but is committed nowhere"
        }
        return isVoid(place)
            ? "write \(value) was answered, but \(place.index) of \(place.region) is of another version of it"
            : nil
    }

    /// The numbers that an entry's commands would write.
    private static func forEachValue(
        in entry: Entry, _ body: (_ value: UInt64, _ version: UInt64) -> Void
    ) {
        guard entry.kind == .normal, !entry.data.isEmpty else { return }
        entry.data.withUnsafeBytes { payload in
            guard let header = try? EntryPayload(payload), header.kind == .commands else { return }
            var records = EntryRecords(header, in: payload)
            while let record = records.next() {
                guard let view = try? CommandView(record: record), view.session == 0 else {
                    continue
                }
                switch view.kind {
                case .put:
                    if let value = SimulatedValue.number(Bytes(copying: view.body)) {
                        body(value, header.epoch.version)
                    }
                case .compareAndSet:
                    if let condition = try? view.condition(), condition.puts,
                        let value = SimulatedValue.number(Bytes(copying: condition.value))
                    {
                        body(value, header.epoch.version)
                    }
                default: continue
                }
            }
        }
    }
}

extension HistoryOperation.Action {
    /// The value that it writes, if it writes one.
    var written: UInt64? {
        switch self {
        case .put(_, let value), .compareAndSet(_, _, let value): value
        case .get, .delete, .increment, .scan: nil
        }
    }
}
