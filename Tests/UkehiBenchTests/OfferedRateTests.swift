import Testing

@testable import UkehiCommand

/// An open loop: what comes when, and what a run is asked for.
@Suite("Offered rates")
struct OfferedRateTests {
    @Test("are numbers or shares of the peak")
    func parsing() {
        #expect(OfferedRate(parsing: "20000") == .operations(20_000))
        #expect(OfferedRate(parsing: "50%") == .share(0.5))
        #expect(OfferedRate(parsing: "0.5%") == .share(0.005))
        for text in ["", "%", "0", "-1", "0%", "101%", "half", "1e99", "nan"] {
            #expect(OfferedRate(parsing: text) == nil, "\(text)")
        }
        var settings = BenchSettings(mix: OperationMix(readRatio: 0)!)
        settings.rate = .share(0.5)
        #expect(BenchSettings.problems(settings).isEmpty)
        settings.clientMode = .async
        #expect(BenchSettings.problems(settings).count == 1)
    }

    @Test("come evenly, each on a beat of a millisecond, and are counted from when they came")
    func schedule() {
        let start: UInt64 = 5_000_000
        var schedule = ArrivalSchedule(operationsPerSecond: 2500, from: start)
        #expect(schedule.due(start - 1) == 0)
        #expect(schedule.take(start + 900_000) == nil)
        // 0.4 and 0.8 ms are the first beat's.
        #expect(schedule.due(start + 1_000_000) == 2)
        #expect(schedule.take(start + 1_700_000) == start + 1_000_000)
        #expect(schedule.take(start + 1_700_000) == start + 1_000_000)
        #expect(schedule.take(start + 1_700_000) == nil)
        // Nobody looked for a second: what came meanwhile has waited since then.
        let late = start + 1_000_000_000
        #expect(schedule.due(late) == 2498)
        #expect(schedule.take(late) == start + 2_000_000)
        var taken = 1
        while let came = schedule.take(late) {
            #expect(came <= late)
            taken += 1
        }
        #expect(taken == 2498)
    }

    @Test("a move that is impossible is refused with all reasons")
    func moveSettings() {
        #expect(MoveSettings().problems.isEmpty)
        #expect(MoveSettings().keys == (1 << 30) / 1040)
        var settings = MoveSettings()
        settings.bytes = 1
        settings.valueBytes = 1
        settings.readRatio = 2
        settings.clients = 0
        settings.durationSeconds = 0
        settings.state = .none
        #expect(settings.problems.count == 6)
        var report = MoveReport(settings: MoveSettings())
        report.before.operations = 1000
        report.before.seconds = 1
        report.during.operations = 1600
        report.during.seconds = 2
        report.after.operations = 600
        report.after.seconds = 1
        #expect(report.ratio == 0.8)
        #expect(report.ratioToBoth == 1)
    }
}
