// What is sent in a session is carried out once at most, whatever became of the answers (RULES 75).
//
// Counted where replicas apply, apart from what they remember of sessions: a replica that carries out a
// command somewhere else than others did, or once more, has forgotten it. That it carries out the same
// entry again after a crash is how logs are replayed.

import UkehiBase
import UkehiRaft
import UkehiState

struct SessionChecker {
    private struct Execution: Hashable {
        var region: RegionID
        var index: LogIndex
    }
    private var executions: [SessionWrite: Execution] = [:]
    private var copies: [SessionWrite: [OutcomeChecker.Place]] = [:]
    private var rejected: Set<SessionWrite> = []
    /// Entries were lost, as a recovery's plan said: what they did may be done again.
    var isExcused = false
    /// Commands that were carried out, and copies of them in logs.
    private(set) var carriedOut = 0
    private(set) var copiesInLogs = 0

    /// An entry is committed for good.
    mutating func committed(_ entry: Entry, in region: RegionID) {
        guard entry.kind == .normal, !entry.data.isEmpty else { return }
        entry.data.withUnsafeBytes { payload in
            guard let header = try? EntryPayload(payload), header.kind == .commands else { return }
            var records = EntryRecords(header, in: payload)
            while let record = records.next() {
                guard let view = try? CommandView(record: record), view.session != 0,
                    let sequence = SessionSequence(rawValue: view.sequence)
                else { continue }
                let write = SessionWrite(session: view.session, number: sequence.number)
                copies[write, default: []].append(
                    OutcomeChecker.Place(
                        region: region, index: entry.index, version: header.epoch.version))
                copiesInLogs += 1
            }
        }
    }

    /// A replica has carried out a command. Returns what is wrong with that, if anything is.
    mutating func carriedOut(
        _ write: SessionWrite, in region: RegionID, at index: LogIndex
    ) -> String? {
        guard !isExcused else { return nil }
        let here = Execution(region: region, index: index)
        if let first = executions[write] {
            guard first != here else { return nil }
            return "write \(write.number) of session \(write.session) is carried out at "
                + "\(first.index) of \(first.region) and at \(index) of \(region)"
        }
        executions[write] = here
        carriedOut += 1
        guard rejected.contains(write) else { return nil }
        return
            "write \(write.number) of session \(write.session) was rejected, and is carried out at "
            + "\(index) of \(region)"
    }

    /// A client was told a result.
    func answered(_ write: SessionWrite, isVoid: (OutcomeChecker.Place) -> Bool) -> String? {
        guard !isExcused else { return nil }
        guard let execution = executions[write] else {
            return "write \(write.number) of session \(write.session) was answered, but nobody has "
                + "carried it out"
        }
        let place = copies[write]?.first {
            $0.region == execution.region && $0.index == execution.index
        }
        guard let place else {
            return "write \(write.number) of session \(write.session) was answered, but is not "
                + "committed where it was carried out"
        }
        return isVoid(place)
            ? "write \(write.number) of session \(write.session) is of another version of "
                + "\(place.region) at \(place.index)" : nil
    }

    /// A client was told, each time it asked, that nothing was done; `isExpired`: for the region did not
    /// take its session.
    mutating func rejected(
        _ write: SessionWrite, isExpired: Bool, isVoid: (OutcomeChecker.Place) -> Bool
    ) -> String? {
        guard !isExcused else { return nil }
        rejected.insert(write)
        if let execution = executions[write] {
            return "write \(write.number) of session \(write.session) was carried out at "
                + "\(execution.index) of \(execution.region), then rejected"
        }
        guard !isExpired, let place = copies[write]?.first(where: { !isVoid($0) }) else {
            return nil
        }
        return
            "write \(write.number) of session \(write.session) was committed at \(place.index) of "
            + "\(place.region), then rejected"
    }
}
