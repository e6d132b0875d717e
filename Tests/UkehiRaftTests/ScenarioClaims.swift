// Which scenario shows which claim: the paper paragraph by paragraph, the thesis claim by claim, RULES 1
// to 16. What a rule asks of layers above the core is in Scenarios/README.md.

import Testing

/// The claims, and the files that show them.
enum ScenarioClaims {
    static let table: [(claim: String, files: [String])] = [
        (
            "Raft §5.1, paragraph 1",
            [
                "paper_5_1_1_five_tolerate_two",
                "paper_5_1_1_one_leader_passive_followers",
            ]
        ),
        ("Raft §5.1, paragraph 2", ["paper_5_1_2_consecutive_terms"]),
        (
            "Raft §5.1, paragraph 3",
            [
                "paper_5_1_3_old_request_is_rejected",
                "paper_5_1_3_stale_leader_steps_down",
                "paper_5_1_3_term_survives_restart",
            ]
        ),
        ("Raft §5.1, paragraph 4", ["paper_5_1_4_parallel_and_retried"]),
        ("Raft §5.2, paragraph 1", ["paper_5_2_1_follower_until_silence"]),
        ("Raft §5.2, paragraph 2", ["paper_5_2_2_candidate"]),
        (
            "Raft §5.2, paragraph 3",
            [
                "paper_5_2_3_majority_wins",
                "paper_5_2_3_one_vote_a_term",
                "paper_5_2_3_votes_of_the_same_term",
            ]
        ),
        (
            "Raft §5.2, paragraph 4",
            [
                "paper_5_2_4_candidate_follows_leader",
                "paper_5_2_4_candidate_ignores_old_leader",
            ]
        ),
        ("Raft §5.2, paragraph 5", ["paper_5_2_5_split_vote"]),
        ("Raft §5.2, paragraph 6", ["paper_5_2_6_random_timeouts"]),
        (
            "Raft §5.3, paragraph 1",
            [
                "paper_5_3_1_replicate_then_answer",
                "paper_5_3_1_retried_for_ever",
            ]
        ),
        ("Raft §5.3, paragraph 2", ["paper_5_3_2_term_and_index"]),
        (
            "Raft §5.3, paragraph 3",
            [
                "paper_5_3_3_commits_what_precedes",
                "paper_5_3_3_committed_on_a_majority",
            ]
        ),
        ("Raft §5.3, paragraph 4", ["paper_5_3_4_one_entry_for_an_index_and_term"]),
        ("Raft §5.3, paragraph 5", ["paper_5_3_5_consistency_check"]),
        ("Raft §5.3, paragraph 6", ["paper_5_3_6_figure_7"]),
        ("Raft §5.3, paragraph 7", ["paper_5_3_7_conflicts_are_overwritten"]),
        ("Raft §5.3, paragraph 8", ["paper_5_3_8_next_index"]),
        ("Raft §5.3, paragraph 9", ["paper_5_3_9_one_probe_a_term"]),
        ("Raft §5.3, paragraph 10", ["paper_5_3_10_leader_appends_only"]),
        ("Raft §5.3, paragraph 11", ["paper_5_3_11_slow_follower"]),
        ("Raft §5.4.1, paragraph 1", ["paper_5_4_1_1_entries_flow_one_way"]),
        ("Raft §5.4.1, paragraph 2", ["paper_5_4_1_2_committed_entries_or_no_votes"]),
        (
            "Raft §5.4.1, paragraph 3",
            [
                "paper_5_4_1_3_later_term_wins",
                "paper_5_4_1_3_longer_log_wins",
            ]
        ),
        ("Raft §5.4.2, paragraph 1", ["paper_5_4_2_1_figure_8_overwritten"]),
        ("Raft §5.4.2, paragraph 2", ["paper_5_4_2_2_figure_8_carried"]),
        ("Raft §5.4.2, paragraph 3", ["paper_5_4_2_3_terms_are_kept"]),
        (
            "Raft §5.4.3, paragraph 1",
            [
                "paper_5_4_3_1_leader_completeness",
                "paper_5_4_3_1_one_voter_in_common",
            ]
        ),
        ("Raft §5.4.3, paragraph 2", ["paper_5_4_3_2_state_machine_safety"]),
        ("Raft §5.4.3, paragraph 3", ["paper_5_4_3_3_applied_in_order"]),
        ("Raft §6, paragraph 1", ["paper_6_1_changed_while_running"]),
        ("Raft §6, paragraph 2", ["paper_6_2_no_disjoint_majorities"]),
        ("Raft §6, paragraph 3", ["paper_6_3_separate_majorities"]),
        ("Raft §6, paragraph 4", ["paper_6_4_served_throughout"]),
        (
            "Raft §6, paragraph 5",
            [
                "paper_6_5_leader_crashes_before_the_joint_entry_commits"
            ]
        ),
        ("Raft §6, paragraph 6", ["paper_6_6_joint_until_the_new_one_is_committed"]),
        ("Raft §6, paragraph 7", ["paper_6_7_learners_catch_up_first"]),
        ("Raft §6, paragraph 8", ["paper_6_8_leader_not_in_the_new_membership"]),
        ("Raft §6, paragraph 9", ["paper_6_9_removed_peer_does_not_disturb"]),
        ("Thesis §3.10, claim 1", ["thesis_3_10_transfer"]),
        ("Thesis §3.10, claim 2", ["thesis_3_10_transfer_catches_up_first"]),
        ("Thesis §3.10, claim 3", ["thesis_3_10_transfer_is_given_up"]),
        ("Thesis §3.10, claim 4", ["thesis_3_10_transfer_passes_the_vote_lease"]),
        ("Thesis §6.4, claim 1", ["thesis_6_4_read_index"]),
        ("Thesis §6.4.1, claim 6", ["thesis_6_4_1_lease_read"]),
        ("Thesis §6.4, claim 2", ["thesis_6_4_read_waits_for_the_first_commit"]),
        ("Thesis §6.4, claim 3", ["thesis_6_4_deposed_leader_serves_no_read"]),
        ("Thesis §6.4, claim 4", ["thesis_6_4_read_of_a_follower"]),
        ("Thesis §6.4, claim 5", ["thesis_6_4_one_round_for_many_reads"]),
        ("Thesis §9.6, claim 1", ["thesis_9_6_prevote_asks_first"]),
        (
            "Thesis §9.6, claim 2",
            [
                "thesis_9_6_prevote_is_denied_while_a_leader_is_heard"
            ]
        ),
        (
            "Thesis §9.6, claim 3",
            [
                "thesis_9_6_prevote_rejoins_quietly",
                "thesis_9_6_without_prevote_a_returning_peer_disturbs",
            ]
        ),
        (
            "RULES 1",
            [
                "rule_01_acknowledgement_waits_for_the_disk",
                "rule_01_elected_once_in_a_term",
                "rule_01_vote_waits_for_the_disk",
            ]
        ),
        (
            "RULES 2",
            [
                "rule_02_acknowledgement_speaks_of_the_append",
                "rule_02_commit_is_clamped",
                "rule_02_older_appends_shorten_nothing",
                "rule_02_truncates_from_the_first_mismatch",
            ]
        ),
        (
            "RULES 3",
            [
                "rule_03_empty_entry_opens_a_term",
                "rule_03_leader_counts_itself_when_durable",
                "rule_03_removed_leader_is_not_counted",
            ]
        ),
        (
            "RULES 4",
            [
                "rule_04_stale_completion_marks_nothing_durable",
                "rule_04_written_before_applied",
            ]
        ),
        (
            "RULES 5",
            [
                "rule_05_leader_without_a_quorum_steps_down",
                "rule_05_lease_of_a_live_leader",
                "rule_05_stuck_peer_frees_itself",
            ]
        ),
        (
            "RULES 6",
            [
                "rule_06_forgotten_support",
                "rule_06_no_vote_while_a_leader_is_supported",
            ]
        ),
        (
            "RULES 7",
            [
                "rule_07_probe",
                "rule_07_replicate",
                "rule_07_snapshot",
                "rule_07_snapshot_from_elsewhere",
                "rule_07_unreachable",
                "rule_07_window_in_bytes",
            ]
        ),
        ("RULES 8", ["rule_08_uncommitted_bytes"]),
        (
            "RULES 9",
            [
                "rule_09_active_when_applied",
                "rule_09_group_of_two_can_not_shrink_after_a_loss",
                "rule_09_new_leader_waits_for_its_log",
                "rule_09_one_change_at_a_time",
            ]
        ),
        (
            "RULES 10",
            [
                "rule_10_no_campaign_with_an_unapplied_change",
                "rule_10_restarted_peer_applies_first",
                "rule_10_target_of_a_transfer",
            ]
        ),
        (
            "RULES 11",
            [
                "rule_11_demoted_leader_hands_over",
                "rule_11_the_new_set_must_be_able_to_commit",
            ]
        ),
        ("RULES 12", ["rule_12_demotion_in_a_joint_change"]),
        (
            "RULES 13",
            [
                "rule_13_learner_neither_votes_for_itself_nor_leads",
                "rule_13_promotion",
                "rule_13_update_keeps_a_learner",
            ]
        ),
        ("RULES 14", ["rule_14_snapshot_carries_its_membership"]),
        ("RULES 15", ["rule_15_leader_removes_itself"]),
        ("RULES 16", ["rule_16_fresh_disk_new_id"]),
    ]

    /// What must have a scenario. Paragraphs are counted within their section of the paper (extended
    /// version); §5.2's last is about a design that was given up, and claims nothing.
    static var required: [String] {
        func section(_ number: String, _ count: Int) -> [String] {
            (1...count).map { "Raft §\(number), paragraph \($0)" }
        }
        func thesis(_ number: String, _ claims: ClosedRange<Int>) -> [String] {
            claims.map { "Thesis §\(number), claim \($0)" }
        }
        let paper =
            section("5.1", 4) + section("5.2", 6) + section("5.3", 11) + section("5.4.1", 3)
            + section("5.4.2", 3) + section("5.4.3", 3) + section("6", 9)
        let additions =
            thesis("3.10", 1...4) + thesis("6.4", 1...5) + thesis("6.4.1", 6...6)
            + thesis("9.6", 1...3)
        return paper + additions + (1...16).map { "RULES \($0)" }
    }
}

@Suite("Scenario files: every claim has one")
struct ScenarioClaimsTests {
    @Test("the table lists the claims that must be shown, each once, and no other")
    func claims() {
        #expect(ScenarioClaims.table.map(\.claim).sorted() == ScenarioClaims.required.sorted())
        for (claim, files) in ScenarioClaims.table {
            #expect(!files.isEmpty, "\(claim) has no scenario")
        }
    }

    @Test("every file is in the table, once, and every one of the table is there")
    func files() {
        let listed = ScenarioClaims.table.flatMap(\.files).map { "\($0).txt" }
        #expect(listed.sorted() == ScenarioFolder.names)
    }

    @Test("each file says first which claim it shows, in words, and ends with a look at it")
    func form() throws {
        for (claim, names) in ScenarioClaims.table {
            for name in names {
                let file = try ScenarioFile(try ScenarioFolder.text("\(name).txt"))
                let first = file.heading.first ?? ""
                // What follows is no digit: RULES 1 is not RULES 10.
                let rest = first.dropFirst(claim.count)
                #expect(
                    first.hasPrefix(claim) && rest.first?.isNumber == false && rest.count > 20,
                    "\(name) does not say that it shows \(claim)")
                let last = file.blocks.last?.directives.last?.name ?? "nothing"
                #expect(
                    ScenarioRunner.looks.contains(last), "\(name) ends with \(last), not a look")
            }
        }
    }
}
