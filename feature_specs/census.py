"""The Census-Income (KDD) dataset, UCI dataset 117: 42 columns without a header, two binary tasks."""
from feature_specs.dataset import DatasetDefinition, TaskDefinition

COLUMNS = (
    "age", "class_worker", "det_ind_code", "det_occ_code", "education", "wage_per_hour", "hs_college", "marital_stat",
    "major_ind_code", "major_occ_code", "race", "hisp_origin", "sex", "union_member", "unemp_reason",
    "full_or_part_emp", "capital_gains", "capital_losses", "stock_dividends", "tax_filer_stat", "region_prev_res",
    "state_prev_res", "det_hh_fam_stat", "det_hh_summ", "instance_weight", "mig_chg_msa", "mig_chg_reg",
    "mig_move_reg", "mig_same", "mig_prev_sunbelt", "num_emp", "fam_under_18", "country_father", "country_mother",
    "country_self", "citizenship", "own_or_self", "vet_question", "vet_benefits", "weeks_worked", "year",
    "income_50k",
)

# The order of both tuples is the order of the record's features (rec_sdk_api 9.2).
SPARSE_COLUMNS = (
    "class_worker", "det_ind_code", "det_occ_code", "education", "hs_college", "major_ind_code", "major_occ_code",
    "race", "hisp_origin", "sex", "union_member", "unemp_reason", "full_or_part_emp", "tax_filer_stat",
    "region_prev_res", "state_prev_res", "det_hh_fam_stat", "det_hh_summ", "mig_chg_msa", "mig_chg_reg",
    "mig_move_reg", "mig_same", "mig_prev_sunbelt", "fam_under_18", "country_father", "country_mother",
    "country_self", "citizenship", "vet_question",
)

DENSE_COLUMNS = (
    "age", "wage_per_hour", "capital_gains", "capital_losses", "stock_dividends", "instance_weight", "num_emp",
    "own_or_self", "vet_benefits", "weeks_worked", "year",
)

INCOME = TaskDefinition(
    name="income",
    label_column="income_50k",
    positive_value="50000+.",
    label_values=("- 50000.", "50000+."),
)

MARITAL = TaskDefinition(
    name="marital",
    label_column="marital_stat",
    positive_value="Never married",
    label_values=(
        "Never married", "Married-civilian spouse present", "Married-spouse absent", "Married-A F spouse present",
        "Separated", "Divorced", "Widowed",
    ),
)

CENSUS = DatasetDefinition(
    name="census",
    columns=COLUMNS,
    sparse_columns=SPARSE_COLUMNS,
    dense_columns=DENSE_COLUMNS,
    tasks=(INCOME, MARITAL),
)
