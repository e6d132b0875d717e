// Typed errors mean what they say (DESIGN 9; TESTING R5): what was acknowledged is in the log, what was
// `rejected` never gets there, and what was called `outcomeUnknown` gets there once at most.
//
// Every write of a simulated client carries a value of its own and is submitted once, so that the log
// itself shows what became of it, whether anybody reads it or not.

import UkehiBase
import UkehiRaft
import UkehiState

struct OutcomeChecker {
    private struct Place: Hashable {
        var region: RegionID
        var index: LogIndex
    }
    private var places: [UInt64: Place] = [:]
    private var rejected: Set<UInt64> = []

    /// An entry is committed for good. Returns what is wrong with that, if anything is.
    mutating func committed(_ entry: Entry, in region: RegionID) -> String? {
        var problem: String?
        Self.forEachValue(in: entry) { value in
            if rejected.contains(value) {
                problem = "write \(value) was rejected, and is committed at \(entry.index)"
            }
            if let before = places[value] {
                problem =
                    "write \(value) is committed twice, at \(before.index) of \(before.region) and at "
                    + "\(entry.index) of \(region)"
            }
            places[value] = Place(region: region, index: entry.index)
        }
        return problem
    }

    /// A client was told that nothing was done.
    mutating func rejected(_ value: UInt64) -> String? {
        rejected.insert(value)
        return places[value].map {
            "write \(value) was committed at \($0.index) of \($0.region), then rejected"
        }
    }

    /// A client was told a result.
    func answered(_ value: UInt64) -> String? {
        places[value] == nil ? "write \(value) was answered, but is committed nowhere" : nil
    }

    /// The numbers that an entry's commands would write.
    private static func forEachValue(in entry: Entry, _ body: (UInt64) -> Void) {
        guard entry.kind == .normal, !entry.data.isEmpty else { return }
        entry.data.withUnsafeBytes { payload in
            guard let header = try? EntryPayload(payload), header.kind == .commands else { return }
            var records = EntryRecords(header, in: payload)
            while let record = records.next() {
                guard let view = try? CommandView(record: record) else { continue }
                switch view.kind {
                case .put:
                    if let value = SimulatedValue.number(Bytes(copying: view.body)) { body(value) }
                case .compareAndSet:
                    if let condition = try? view.condition(), condition.puts,
                        let value = SimulatedValue.number(Bytes(copying: condition.value))
                    {
                        body(value)
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
        case .get, .delete, .scan: nil
        }
    }
}
